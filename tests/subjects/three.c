/* Three functions that burn about 50, 30 and 20 % of the CPU time, in slices of random length, and measure what each really took.
 *
 * three [SECONDS]: runs for so many seconds of CPU time, or until SIGTERM; prints `ready` first and the measured shares last:
 *   share half 0.5012 8.0123
 * (share of the three together, CPU seconds). The measuring clock counts the CPU time of this thread, as the kernel's scheduler keeps it.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static volatile sig_atomic_t stopped;
static volatile uint64_t sink;

static void stop(int signal) { (void)signal; stopped = 1; }

static uint64_t cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Three times the same work, each a leaf with a frame of its own; separate functions that the compiler may neither merge nor inline. */
#define BURN(name, start)                                                        \
    __attribute__((noinline, noclone, no_icf)) static void name(uint64_t rounds) { \
        __asm__ volatile("" : : "r"(__builtin_frame_address(0)));                \
        uint64_t value = start;                                                  \
        for (uint64_t i = 0; i < rounds; i++) {                                  \
            value = value * 6364136223846793005u + start;                        \
            value ^= value >> 29;                                                \
        }                                                                        \
        sink += value;                                                           \
    }
BURN(burn_half, 1442695040888963407u)
BURN(burn_third, 1442695040888963409u)
BURN(burn_fifth, 1442695040888963411u)

static uint64_t random_state = 88172645463325252u;
static uint64_t next_random(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

int main(int argc, char **argv) {
    uint64_t limit_ns = argc > 1 ? (uint64_t)(atof(argv[1]) * 1e9) : UINT64_MAX;
    uint64_t spent[3] = {0, 0, 0};
    const char *names[3] = {"burn_half", "burn_third", "burn_fifth"};
    random_state ^= (uint64_t)time(NULL) << 20;
    signal(SIGTERM, stop);
    puts("ready");
    fflush(stdout);
    uint64_t begin = cpu_ns(), last = begin;
    while (!stopped && last - begin < limit_ns) {
        /* 50 : 30 : 20 in the mean; each slice between 0 and 2 ms or so, never in step with a clock. */
        uint64_t draw = next_random() % 10, rounds = next_random() % 1000000;
        int which = draw < 5 ? 0 : draw < 8 ? 1 : 2;
        if (which == 0) burn_half(rounds);
        else if (which == 1) burn_third(rounds);
        else burn_fifth(rounds);
        uint64_t now = cpu_ns();
        spent[which] += now - last;
        last = now;
    }
    double total = (double)(spent[0] + spent[1] + spent[2]);
    for (int i = 0; i < 3; i++) printf("share %s %.6f %.6f\n", names[i], spent[i] / total, spent[i] / 1e9);
    return 0;
}
