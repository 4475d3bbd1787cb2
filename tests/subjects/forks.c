/* forks RATE SECONDS: starts RATE children a second, for SECONDS; each burns 1 ms of CPU time in `child_work` and ends. Prints `ready` first and
 * `forked N` last. RATE 0 is as fast as it goes. What was missed while nobody let it run is not made up for, but for twenty children: a burst is no rate. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile uint64_t sink;

static double now_of(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

__attribute__((noinline, noclone)) void child_work(void) {
    while (now_of(CLOCK_PROCESS_CPUTIME_ID) < 1e-3) {
        uint64_t value = sink;
        for (int i = 0; i < 10000; i++) value = value * 6364136223846793005u + 1;
        sink = value;
    }
}

int main(int argc, char **argv) {
    double rate = argc > 1 ? atof(argv[1]) : 500, seconds = argc > 2 ? atof(argv[2]) : 5;
    puts("ready");
    fflush(stdout);
    double begin = now_of(CLOCK_MONOTONIC), now = begin, last = begin, due = 0;
    long forked = 0;
    while ((now = now_of(CLOCK_MONOTONIC)) - begin < seconds) {
        due += (now - last) * rate;
        if (due > 20) due = 20;
        last = now;
        if (rate > 0 && due < 1) {
            struct timespec pause = {0, 500000};
            nanosleep(&pause, NULL);
        } else {
            pid_t child = fork();
            if (child == 0) {
                child_work();
                _exit(0);
            }
            if (child > 0) forked++, due--;
        }
        while (waitpid(-1, NULL, WNOHANG) > 0) {}
    }
    while (wait(NULL) > 0) {}
    printf("forked %ld\n", forked);
    return 0;
}
