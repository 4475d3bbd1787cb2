// leak: one of 50 call paths leaks 1 MB a second, the other 49 allocate and free 100 MB a second. Until it is killed.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PLAIN __attribute__((noinline, noclone))

static void *volatile held[64];
static volatile int turn;

PLAIN static void *obtain(size_t size) {
    char *block = malloc(size);
    if (!block) abort();
    memset(block, 1, 64);
    return block;
}

// Each path is a function of its own: what it obtains lives until its next turn. Number 17 forgets.
#define PATH(n) \
    PLAIN static void path_##n(void) { \
        void *old = held[n]; \
        held[n] = obtain(n == 17 ? 1000 : 1021); \
        if (n != 17) free(old); \
        turn++; \
    }
#define TEN(d) PATH(d##0) PATH(d##1) PATH(d##2) PATH(d##3) PATH(d##4) PATH(d##5) PATH(d##6) PATH(d##7) PATH(d##8) PATH(d##9)
PATH(0) PATH(1) PATH(2) PATH(3) PATH(4) PATH(5) PATH(6) PATH(7) PATH(8) PATH(9)
TEN(1) TEN(2) TEN(3) TEN(4)

#define NAME(n) path_##n
#define NAMES(d) path_##d##0, path_##d##1, path_##d##2, path_##d##3, path_##d##4, path_##d##5, path_##d##6, path_##d##7, path_##d##8, path_##d##9
static void (*const paths[50])(void) = {path_0, path_1, path_2, path_3, path_4, path_5, path_6, path_7, path_8, path_9, NAMES(1), NAMES(2), NAMES(3), NAMES(4)};

int main(void) {
    puts("ready");
    fflush(stdout);
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    // 100 times a second by the clock, whatever a turn takes: 10 blocks of 1,000 bytes are forgotten, and 980 of 1,021 obtained and given back.
    for (;;) {
        for (int path = 0; path < 50; path++)
            for (int times = 0; times < (path == 17 ? 10 : 20); times++) paths[path]();
        at.tv_nsec += 10000000;
        if (at.tv_nsec >= 1000000000) at.tv_sec++, at.tv_nsec -= 1000000000;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
    }
}
