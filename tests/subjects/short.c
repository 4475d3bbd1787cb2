/* short [MS [FILE]]: lives about 50 ms of CPU time (or MS) in two known functions, short_one calling short_two, and prints nothing. With FILE it removes
 * that file first: its own, in the test where the binary is gone right after the exec. */
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static volatile uint64_t sink;

static double cpu_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

__attribute__((noinline, noclone)) void short_two(void) {
    __asm__ volatile("" : : "r"(__builtin_frame_address(0))); /* a leaf, but with a frame of its own: its caller is not skipped */
    uint64_t value = sink;
    for (int i = 0; i < 200000; i++) value = value * 6364136223846793005u + 1442695040888963407u;
    sink = value;
}

__attribute__((noinline, noclone)) void short_one(void) {
    short_two();
    sink++;
}

int main(int argc, char **argv) {
    double limit = argc > 1 ? atof(argv[1]) : 50;
    if (argc > 2) unlink(argv[2]);
    while (cpu_ms() < limit) short_one();
    return 0;
}
