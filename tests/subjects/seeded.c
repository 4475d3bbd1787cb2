// seeded: 36 stacks that allocate and give back by the numbers of a generator with a fixed seed, so that each run is the same; what lives in the end is left.
// Sizes are size classes of jemalloc, whose own profile knows no others.
#include <stdlib.h>

#define PLAIN __attribute__((noinline, noclone))
#define HELD 20000

static unsigned long long state = 20261129;
static void *volatile held[HELD];

// Knuth's generator, its upper bits.
static unsigned number(unsigned below) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)(state >> 33) % below;
}

// What was there before is given back.
static void hold(void *block) {
    unsigned at = number(HELD);
    if (!block) abort();
    free(held[at]);
    held[at] = block;
}

#define LEAF(name, size) PLAIN static void name(void) { hold(malloc(size)); }
LEAF(leaf_a, 64) LEAF(leaf_b, 320) LEAF(leaf_c, 1024) LEAF(leaf_d, 48) LEAF(leaf_e, 2048) LEAF(leaf_f, 5120)
static void (*const leaves[6])(void) = {leaf_a, leaf_b, leaf_c, leaf_d, leaf_e, leaf_f};

// Each path has another liking for the leaves.
#define PATH(n) \
    PLAIN static void path_##n(void) { \
        unsigned which = number(6), often = number(2 + n * 3); \
        for (unsigned i = 0; i <= often; i++) leaves[which](); \
        state++; \
    }
PATH(0) PATH(1) PATH(2) PATH(3) PATH(4) PATH(5)
static void (*const paths[6])(void) = {path_0, path_1, path_2, path_3, path_4, path_5};

int main(void) {
    for (int i = 0; i < 20000; i++) paths[number(6)]();
    return 0;
}
