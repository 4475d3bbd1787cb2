/* Two threads, named `worker-one` and `worker-two`, that burn CPU in functions of their own at about 2 : 1, until SIGTERM. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t stopped;

static void stop(int signal) { (void)signal; stopped = 1; }

static double cpu_seconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

#define WORK(name)                                                                       \
    __attribute__((noinline, noclone, no_icf)) void name(volatile uint64_t *sink) {      \
        for (int i = 0; i < 100000; i++) *sink = *sink * 6364136223846793005u + 1;       \
    }
WORK(work_of_one)
WORK(work_of_two)

static volatile double one_used;

static void *one(void *unused) {
    volatile uint64_t sink = 1;
    (void)unused;
    pthread_setname_np(pthread_self(), "worker-one");
    while (!stopped) {
        work_of_one(&sink);
        one_used = cpu_seconds(CLOCK_THREAD_CPUTIME_ID);
    }
    return NULL;
}

static void *two(void *unused) {
    volatile uint64_t sink = 1;
    (void)unused;
    pthread_setname_np(pthread_self(), "worker-two");
    while (!stopped) {
        if (cpu_seconds(CLOCK_THREAD_CPUTIME_ID) * 2 > one_used) {
            struct timespec pause = {0, 1000000};
            nanosleep(&pause, NULL);
        } else {
            work_of_two(&sink);
        }
    }
    return NULL;
}

int main(void) {
    pthread_t threads[2];
    signal(SIGTERM, stop);
    pthread_create(&threads[0], NULL, one, NULL);
    pthread_create(&threads[1], NULL, two, NULL);
    puts("ready");
    fflush(stdout);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    return 0;
}
