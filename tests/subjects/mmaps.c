//! Maps memory, a known number of times in each function, when it is told to.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define PLAIN __attribute__((noinline, noclone))

PLAIN static void map(size_t bytes) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) abort();
    munmap(at, bytes);
    __asm__ volatile("");
}

PLAIN static void small(void) {
    for (int i = 0; i < 100; i++) map(65536);
    __asm__ volatile("");
}

PLAIN static void large(void) {
    for (int i = 0; i < 10; i++) map(1048576);
    __asm__ volatile("");
}

// Beyond the allocator's threshold: a mapping of its own, a page longer than what was asked for.
PLAIN static void by_malloc(void) {
    for (int i = 0; i < 7; i++) {
        void *volatile block = malloc(40 << 20);
        if (!block) abort();
        free(block);
    }
    __asm__ volatile("");
}

// Fails, and maps nothing.
PLAIN static void refused(void) {
    if (mmap(NULL, 1ul << 47, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED) abort();
    __asm__ volatile("");
}

int main(void) {
    char line[16];
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        small();
        large();
        by_malloc();
        refused();
        puts("done");
        fflush(stdout);
    }
    return 0;
}
