// pool: an allocator of its own, whose functions nobody knows by their names. Does a round each time that a line arrives on standard input:
// 700 blocks of 90 bytes that stay (taken), 200 of 500 that go (passing), 30 zeroed ones of 8 x 16 that stay (cleared), 40 of 20 bytes that become 2,000 and
// stay (enlarged); and 5 of the C library's of 333 bytes that stay (others).
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PLAIN __attribute__((noinline, noclone))

// Blocks of one size each stand in a list of those that were given back; their size is before them.
struct block {
    size_t size;
    struct block *next;
};
static struct block *given_back[65];
static char *rest, *end;

PLAIN void *pool_get(size_t size) {
    size_t units = (size + 63) / 64;
    if (units > 64) return NULL;
    struct block *block = given_back[units];
    if (block) {
        given_back[units] = block->next;
    } else {
        if ((size_t)(end - rest) < 16 + units * 64) {
            rest = mmap(NULL, 1 << 22, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (rest == MAP_FAILED) abort();
            end = rest + (1 << 22);
        }
        block = (struct block *)rest;
        rest += 16 + units * 64;
        block->size = units;
    }
    return (char *)block + 16;
}

PLAIN void pool_put(void *at) {
    if (!at) return;
    struct block *block = (struct block *)((char *)at - 16);
    block->next = given_back[block->size];
    given_back[block->size] = block;
}

PLAIN void *pool_zeroed(size_t count, size_t size) {
    void *at = pool_get(count * size);
    if (at) memset(at, 0, count * size);
    return at;
}

PLAIN void *pool_more(void *old, size_t size) {
    void *at = pool_get(size);
    if (!at) return NULL;
    if (old) memcpy(at, old, ((struct block *)((char *)old - 16))->size * 64 < size ? ((struct block *)((char *)old - 16))->size * 64 : size);
    pool_put(old);
    return at;
}

static void *volatile held[1 << 16];
static unsigned count;

static void hold(void *block) {
    if (!block) abort();
    held[count++ & 0xffff] = block;
}

PLAIN static void taken(void) {
    for (int i = 0; i < 700; i++) hold(pool_get(90));
}

PLAIN static void passing(void) {
    for (int i = 0; i < 200; i++) {
        void *volatile block = pool_get(500);
        pool_put(block);
    }
}

PLAIN static void cleared(void) {
    for (int i = 0; i < 30; i++) hold(pool_zeroed(8, 16));
}

PLAIN static void enlarged(void) {
    for (int i = 0; i < 40; i++) {
        void *volatile block = pool_get(20);
        hold(pool_more(block, 2000));
    }
}

PLAIN static void others(void) {
    for (int i = 0; i < 5; i++) hold(malloc(333));
}

int main(void) {
    char line[64];
    setvbuf(stdout, NULL, _IONBF, 0);
    setvbuf(stdin, NULL, _IONBF, 0);
    puts("ready");
    while (fgets(line, sizeof line, stdin)) {
        taken(), passing(), cleared(), enlarged(), others();
        puts("done");
    }
    return 0;
}
