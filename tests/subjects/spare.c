// What is left of CPUs: on each of so many (the first word) a loop of the scheduler's idle class, which runs only where nobody else wants to, and looks at the clock all the
// time. Each line on its standard input is answered by `spare NS NOW`: what all of them have had until now, and the time, ns. So CPUs do not halt, and what anybody takes
// of them is seen, in whatever context. (By how often it loops it is not seen: two threads of one core are as fast as the other one lets them.)
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define CPUS_MAX 64
// Between two looks, ns: it was not there. To leave a CPU and come back takes longer than that.
#define AWAY 500

static struct {
    _Alignas(128) volatile uint64_t had;
} counters[CPUS_MAX];

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ULL + time.tv_nsec;
}

static void *counts(void *which) {
    intptr_t cpu = (intptr_t)which;
    struct sched_param none = {0};
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) || sched_setscheduler(0, SCHED_IDLE, &none)) exit(1);
    for (uint64_t before = now();;) {
        uint64_t then = now();
        if (then - before < AWAY) counters[cpu].had += then - before;
        before = then;
    }
}

int main(int many, char **words) {
    intptr_t cpus = many > 1 ? atoi(words[1]) : 0;
    char line[64];
    if (cpus < 1 || cpus > CPUS_MAX) return 1;
    for (intptr_t cpu = 0; cpu < cpus; cpu++) {
        pthread_t thread;
        if (pthread_create(&thread, 0, counts, (void *)cpu)) return 1;
    }
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        uint64_t had = 0, time = now();
        for (intptr_t cpu = 0; cpu < cpus; cpu++) had += counters[cpu].had;
        printf("spare %llu %llu\n", (unsigned long long)had, (unsigned long long)time);
        fflush(stdout);
    }
    return 0;
}
