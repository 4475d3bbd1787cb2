// mal DEPTH: pairs of malloc and free below DEPTH frames of `descend`, and what they cost. For each line `CALLS LEAST MOST WORK_NS` on standard input it
// makes CALLS pairs with sizes from LEAST to MOST (even, by a fixed sequence) and WORK_NS of work after each, and prints `done NS BYTES`: nanoseconds of its
// own CPU time a pair, and the bytes that it asked for. Its first line is `ready MALLOC FREE`, the addresses of the functions.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define PLAIN __attribute__((noinline, noclone))

static volatile uint64_t sink;
static double turns_per_ns;

static double now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at);
    return at.tv_sec * 1e9 + at.tv_nsec;
}

PLAIN static void work(uint64_t turns) {
    uint64_t value = sink;
    for (uint64_t i = 0; i < turns; i++) value = value * 6364136223846793005u + 1;
    sink = value;
}

// The best of some tries: what disturbs makes the work seem slower than it is.
static void calibrate(void) {
    const uint64_t turns = 4000000;
    for (int i = 0; i < 7; i++) {
        double begun = now_ns();
        work(turns);
        double rate = turns / (now_ns() - begun);
        if (rate > turns_per_ns) turns_per_ns = rate;
    }
}

PLAIN static void pairs(uint64_t calls, uint64_t least, uint64_t most, uint64_t turns) {
    uint64_t bytes = 0, state = 88172645463325252u;
    double begun = now_ns();
    for (uint64_t i = 0; i < calls; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        size_t size = least + (state >> 32) % (most - least + 1);
        void *volatile block = malloc(size);
        if (!block) abort();
        bytes += size;
        if (turns) work(turns);
        free(block);
    }
    double ended = now_ns();
    printf("done %.2f %llu\n", (ended - begun) / calls, (unsigned long long)bytes);
}

PLAIN static void rounds(void) {
    char line[128];
    unsigned long long calls, least, most, work_ns;
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "%llu %llu %llu %llu", &calls, &least, &most, &work_ns) != 4 || most < least) break;
        pairs(calls, least, most, work_ns * turns_per_ns);
    }
}

PLAIN static void descend(long depth) {
    if (depth <= 1) rounds();
    else descend(depth - 1);
    sink++;
}

int main(int argc, char **argv) {
    static char in[1 << 12], out[1 << 12];
    // Buffers of its own: stdio allocates nothing while it is watched.
    setvbuf(stdin, in, _IOLBF, sizeof in);
    setvbuf(stdout, out, _IOLBF, sizeof out);
    calibrate();
    printf("ready %llx %llx\n", (unsigned long long)(uintptr_t)&malloc, (unsigned long long)(uintptr_t)&free);
    descend(argc > 1 ? atol(argv[1]) : 5);
    return 0;
}
