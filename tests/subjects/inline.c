/* Work in `innermost`, inlined into `inner`, inlined into `holder`, which is a real function; until SIGTERM. */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>

static volatile sig_atomic_t stopped;
static volatile uint64_t sink;

static void stop(int signal) { (void)signal; stopped = 1; }

static inline __attribute__((always_inline)) uint64_t innermost(uint64_t value) {
    for (int i = 0; i < 300000; i++) value = value * 6364136223846793005u + 1442695040888963407u;
    return value;
}

static inline __attribute__((always_inline)) uint64_t inner(uint64_t value) {
    return innermost(value) ^ 1;
}

__attribute__((noinline, noclone)) void holder(void) {
    __asm__ volatile("" : : "r"(__builtin_frame_address(0))); /* a leaf, but with a frame of its own: its caller is not skipped */
    sink = inner(sink);
}

int main(void) {
    signal(SIGTERM, stop);
    puts("ready");
    fflush(stdout);
    while (!stopped) holder();
    return 0;
}
