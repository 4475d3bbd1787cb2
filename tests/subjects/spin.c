/* Burns CPU in one function below a known chain of callers: main > outer > middle > spin_here.
 *
 * spin [CPU_SECONDS [EXIT_STATUS]]: until so much CPU time of the process is used, or for ever; then ends with the status. Prints `ready` first and
 * `cpu SECONDS`, by the process's own CPU clock, last. SIGTERM ends it early. A third argument is printed as a line of its own.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static volatile sig_atomic_t stopped;
static volatile uint64_t sink;

static void stop(int signal) { (void)signal; stopped = 1; }

static double cpu_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

__attribute__((noinline, noclone)) void spin_here(uint64_t rounds) {
    __asm__ volatile("" : : "r"(__builtin_frame_address(0))); /* a leaf, but with a frame of its own: its caller is not skipped */
    uint64_t value = sink;
    for (uint64_t i = 0; i < rounds; i++) value = value * 6364136223846793005u + 1442695040888963407u;
    sink = value;
}

__attribute__((noinline, noclone)) void middle(uint64_t rounds) {
    spin_here(rounds);
    sink++;
}

__attribute__((noinline, noclone)) void outer(uint64_t rounds) {
    middle(rounds);
    sink++;
}

int main(int argc, char **argv) {
    double limit = argc > 1 ? atof(argv[1]) : 1e18;
    signal(SIGTERM, stop);
    puts("ready");
    if (argc > 3) puts(argv[3]);
    fflush(stdout);
    while (!stopped && cpu_seconds() < limit) outer(300000);
    printf("cpu %.6f\n", cpu_seconds());
    return argc > 2 ? atoi(argv[2]) : 0;
}
