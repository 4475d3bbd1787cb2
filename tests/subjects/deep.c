/* deep DEPTH: burns CPU below DEPTH frames of `descend`, by frame pointers, until SIGTERM. */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static volatile sig_atomic_t stopped;
static volatile uint64_t sink;

static void stop(int signal) { (void)signal; stopped = 1; }

__attribute__((noinline, noclone)) void bottom(void) {
    if (sink == 0) {
        puts("ready");
        fflush(stdout);
    }
    while (!stopped) {
        uint64_t value = sink + 1;
        for (int i = 0; i < 100000; i++) value = value * 6364136223846793005u + 1;
        sink = value | 1;
    }
}

__attribute__((noinline, noclone)) void descend(long depth) {
    if (depth <= 1) bottom();
    else descend(depth - 1);
    sink++;
}

int main(int argc, char **argv) {
    signal(SIGTERM, stop);
    descend(argc > 1 ? atol(argv[1]) : 10);
    return 0;
}
