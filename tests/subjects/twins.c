/* twins ROUNDS: told to go on, allocates by stacks that are the same but for one frame, from the same place of memory: below `first` or `second`, near the root, and
 * through `left` or `right`, near the leaf; each for some rounds, then by turns. `pads` does it below another frame of each size. Prints how often by each. */
#include <stdio.h>
#include <stdlib.h>

static long counted[2][2];
static void *volatile block;
static volatile long sink;

/* Each adds another number: two functions that are the same would be one. The second has a larger frame, so that below a smaller one it leads to the same place. */
#define PASS(name, call, number, bytes)                                                                                                                              \
    __attribute__((noinline, noclone)) static void name(long depth, int to) {                                                                                 \
        volatile char room[bytes];                                                                                                                             \
        for (int at = 0; at < bytes; at++) room[at] = number; /* No address of an earlier call is left in it. */                                               \
        call;                                                                                                                                                  \
        sink += room[0];                                                                                                                                       \
    }

__attribute__((noinline, noclone)) static void leaf(void) {
    block = malloc(64);
    free(block);
    sink++;
}

__attribute__((noinline, noclone)) static void deep(long depth) {
    if (depth == 0) leaf();
    else deep(depth - 1);
    sink++;
}

PASS(left, deep(depth), 2, 16)
PASS(right, deep(depth), 3, 16)

__attribute__((noinline, noclone)) static void middle(long depth, int to) {
    if (depth > 0) middle(depth - 1, to);
    else if (to) right(3, to);
    else left(3, to);
    sink++;
}

PASS(first, middle(depth, to), 4, 16)
PASS(second, middle(depth, to), 5, 32)

/* The sizes of its frame are known at run time only: its callers are found by its frame pointer, also where nothing else has one. */
__attribute__((noinline, noclone)) static void pads(long bytes, int by, int to) {
    volatile char *pad = __builtin_alloca(bytes);
    pad[0] = 1;
    if (by) second(8, to);
    else first(8, to);
    counted[by][to]++;
    sink += pad[0];
}

int main(int argc, char **argv) {
    long rounds = argc > 1 ? atol(argv[1]) : 1000;
    char line[16];
    puts("ready");
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin)) return 1;
    for (long round = 0; round < rounds; round++) {
        long phase = round / 50 % 4;
        pads(phase == 3 ? 16 + round % 3 * 16 : 32, phase == 0 ? 0 : phase == 1 ? 1 : round % 2, round / 100 % 3 == 2 ? round % 2 : round / 200 % 2);
    }
    printf("done %ld %ld %ld %ld\n", counted[0][0], counted[0][1], counted[1][0], counted[1][1]);
    fflush(stdout);
    return fgets(line, sizeof line, stdin) == 0;
}
