// strange: an allocator of its own, and a program that uses it as none should be used. A line on standard input says what is done:
//   frees    700 blocks of 90 bytes that stay; and what it never got is given back: null, addresses of nothing, the middle of blocks, 200 of 500 bytes three times
//   waits    asks for a block, and the allocator says `inside` and does not come back
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PLAIN __attribute__((noinline, noclone))

static char *rest, *end;

// Nothing is ever used again, so an address says which block it was.
PLAIN void *strange_get(size_t size) {
    if (size == 12345 && write(1, "inside\n", 7) == 7)
        for (;;) pause();
    size_t room = (size + 15) & ~15UL;
    if ((size_t)(end - rest) < room) {
        rest = mmap(NULL, 1 << 24, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (rest == MAP_FAILED) abort();
        end = rest + (1 << 24);
    }
    char *block = rest;
    rest += room;
    return block;
}

static volatile unsigned long given_back;

PLAIN void strange_put(void *block) {
    given_back += (unsigned long)block & 1;
}

static char *volatile held[1 << 16];
static unsigned count;

PLAIN static void taken(void) {
    for (int i = 0; i < 700; i++) held[count++ & 0xffff] = strange_get(90);
}

PLAIN static void thrice(void) {
    for (int i = 0; i < 200; i++) {
        char *volatile block = strange_get(500);
        strange_put(block);
        strange_put(block);
        strange_put(block);
    }
}

PLAIN static void never_got(void) {
    strange_put(NULL);
    for (uintptr_t i = 1; i <= 1000; i++) {
        strange_put((void *)(i * 4096));
        strange_put((void *)(UINTPTR_MAX - i * 16));
        strange_put(held[i % 700] + 16);
    }
}

PLAIN static void waits(void) {
    held[0] = strange_get(12345);
}

int main(void) {
    char line[64];
    setvbuf(stdout, NULL, _IONBF, 0);
    setvbuf(stdin, NULL, _IONBF, 0);
    puts("ready");
    while (fgets(line, sizeof line, stdin)) {
        if (!strncmp(line, "waits", 5)) waits();
        taken(), thrice(), never_got();
        puts("done");
    }
    return 0;
}
