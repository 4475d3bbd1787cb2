// blocks: allocates in a known pattern, each time that a line arrives on standard input, and says when it is done.
// Each round: 1,000 blocks of 100 bytes that stay (kept), 2,000 of 1,000 bytes that go (dropped), 100 zeroed ones of 40 x 50 bytes that stay (zeroed),
// 300 of 10 bytes that grow to 5,000 and stay (grown), 50 aligned ones of 4,096 bytes that stay (aligned), 10 calls that fail (refused).
#define _GNU_SOURCE
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PLAIN __attribute__((noinline, noclone))

static void *volatile held[1 << 20];
static size_t count;

PLAIN static void hold(void *block) {
    if (!block) abort();
    held[count++ & ((1 << 20) - 1)] = block;
}

PLAIN static void kept(void) {
    for (int i = 0; i < 1000; i++) hold(malloc(100));
}

PLAIN static void dropped(void) {
    for (int i = 0; i < 2000; i++) {
        void *volatile block = malloc(1000);
        free(block);
    }
}

PLAIN static void zeroed(void) {
    for (int i = 0; i < 100; i++) hold(calloc(40, 50));
}

PLAIN static void grown(void) {
    for (int i = 0; i < 300; i++) {
        void *volatile block = realloc(NULL, 10);
        hold(realloc(block, 5000));
    }
}

PLAIN static void aligned(void) {
    for (int i = 0; i < 25; i++) {
        void *block = NULL;
        if (posix_memalign(&block, 64, 4096)) abort();
        hold(block);
        hold(aligned_alloc(4096, 4096));
    }
}

PLAIN static void refused(void) {
    volatile size_t much = SIZE_MAX / 2;
    for (int i = 0; i < 10; i++) {
        if (malloc(much)) abort();
        void *volatile block = malloc(8);
        if (realloc(block, much)) abort(); // The block stays as it is ...
        free(block);                       // ... and is given back here.
    }
}

PLAIN static void round_of_all(void) {
    kept();
    dropped();
    zeroed();
    grown();
    aligned();
    refused();
    free(NULL);
}

int main(void) {
    char line[64];
    setvbuf(stdout, NULL, _IONBF, 0);
    setvbuf(stdin, NULL, _IONBF, 0);
    puts("ready");
    while (fgets(line, sizeof line, stdin)) {
        if (line[0] == 'q') break;
        round_of_all();
        puts("done");
    }
    return 0;
}
