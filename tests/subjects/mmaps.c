//! Makes its address space larger and smaller, by known amounts in each function, when it is told to.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PLAIN __attribute__((noinline, noclone))
#define KB 1024l
#define MB (1024 * KB)

static char *at;

PLAIN static void *map(void *where, size_t bytes, int flags) {
    void *mapped = mmap(where, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    if (mapped == MAP_FAILED) abort();
    return mapped;
}

PLAIN static void unmap(void *where, size_t bytes) {
    if (munmap(where, bytes)) abort();
    __asm__ volatile("");
}

PLAIN static void small(void) {
    for (int i = 0; i < 100; i++) unmap(map(NULL, 64 * KB, 0), 64 * KB);
    __asm__ volatile("");
}

// Beyond the allocator's threshold: a mapping of its own, a page longer than what was asked for.
PLAIN static void by_malloc(void) {
    for (int i = 0; i < 7; i++) {
        void *volatile block = malloc(40 * MB);
        if (!block) abort();
        free(block);
    }
    __asm__ volatile("");
}

PLAIN static void by_break(void) {
    if (sbrk(3 * MB) == (void *)-1) abort();
    if (sbrk(-1 * MB) == (void *)-1) abort();
    __asm__ volatile("");
}

// Over a part of what is there: nothing grows; then beyond it.
PLAIN static void fixed(void) {
    map(at + 1 * MB, 1 * MB, MAP_FIXED);
    map(at + 8 * MB, 2 * MB, MAP_FIXED);
    __asm__ volatile("");
}

// With a hole in it, which is none of it.
PLAIN static void with_hole(void) {
    unmap(at + 3 * MB, 1 * MB);
    unmap(at + 2 * MB, 3 * MB);
    __asm__ volatile("");
}

PLAIN static void moved(void) {
    char *block = map(NULL, 64 * KB, 0);
    block = mremap(block, 64 * KB, 5 * MB, MREMAP_MAYMOVE);
    if (block == MAP_FAILED) abort();
    block = mremap(block, 5 * MB, 1 * MB, 0);
    if (block == MAP_FAILED) abort();
    unmap(block, 1 * MB);
}

// Fails, and maps nothing.
PLAIN static void refused(void) {
    if (mmap(NULL, 1ul << 47, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED) abort();
    __asm__ volatile("");
}

// A child has a space of its own, as large as that of its parent.
PLAIN static void in_child(void) {
    pid_t child = fork();
    if (child == 0) {
        map(NULL, 6 * MB, 0);
        _exit(0);
    }
    if (child < 0 || waitpid(child, NULL, 0) != child) abort();
}

int main(void) {
    char line[16];
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        // Room behind it, where nothing of others can be.
        at = map(NULL, 16 * MB, 0);
        unmap(at + 8 * MB, 8 * MB);
        small();
        by_malloc();
        by_break();
        fixed();
        with_hole();
        moved();
        refused();
        in_child();
        puts("done");
        fflush(stdout);
    }
    return 0;
}
