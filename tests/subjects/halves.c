//! As long on the CPU as off it: 50 ms by its own CPU clock in `burns`, then 50 ms asleep in `naps`, again and again.
#define _GNU_SOURCE
#include <stdio.h>
#include <time.h>

static long long cpu_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return time.tv_sec * 1000000000ll + time.tv_nsec;
}

__attribute__((noinline)) void burns(void) {
    long long until = cpu_ns() + 50000000;
    while (cpu_ns() < until) {
        for (volatile int spin = 0; spin < 20000; spin++) {
        }
    }
    __asm__ volatile("");
}

__attribute__((noinline)) void naps(void) {
    struct timespec time = {0, 50000000};
    nanosleep(&time, 0);
    __asm__ volatile("");
}

int main(void) {
    puts("ready");
    fflush(stdout);
    for (;;) {
        burns();
        naps();
    }
}
