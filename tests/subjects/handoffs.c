// Hand-offs that are timed: a line `KIND COUNT` on its standard input is answered by `took NS`, CPU time for each of them. `lock`: two threads let each other go in turn
// at words of memory, as a lock that both want all the time, at a stack that is 20 deep; `pipe`: they wake each other through pipes; `getppid`: no hand-off,
// a system call alone. The first word says on how many CPUs. With a second one, `spare`, NS is what is taken of these CPUs, in whatever context: what is not left for a loop
// on each of them that runs only where nobody else wants to, and looks at the clock all the time. The loops also keep the CPUs from halting. They share the address space,
// as an idle CPU keeps the last one, but are other processes. (By how often it loops what is left is not seen: two threads of one core are as fast as the other one lets
// them. And CPU time leaves out what is done as a thread leaves a CPU on which nobody else wants to run.)
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define CONTENDED 2
#define CPUS_MAX 8
// Between two looks at the clock, ns: the loop was not there. To leave a CPU and come back takes longer than that.
#define AWAY 500

static int cpus, ends[2][2];
static _Alignas(64) _Atomic uint32_t words[2][16];
static long count;
static struct {
    _Alignas(128) volatile uint64_t ns;
} had[CPUS_MAX];
static int is_spare;
static char kind[16];
static pthread_barrier_t begin, end;

static void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set)) exit(1);
}

static void futex(_Atomic uint32_t *word, int operation, uint32_t value) { syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, 0, 0, 0); }

__attribute__((noinline)) static void waits(int me) {
    while (atomic_load(&words[me][0]) == CONTENDED) futex(&words[me][0], FUTEX_WAIT, CONTENDED);
    atomic_store(&words[me][0], CONTENDED);
}

__attribute__((noinline)) static void lets_go(int other) {
    atomic_store(&words[other][0], 0);
    futex(&words[other][0], FUTEX_WAKE, 1);
    __asm__ volatile("");
}

static void locks(int me) {
    for (long at = 0; at < count; at++) {
        if (me) waits(1), lets_go(0);
        else lets_go(1), waits(0);
    }
}

static void pipes(int me) {
    char byte = 0;
    for (long at = 0; at < count; at++) {
        if (me && read(ends[1][0], &byte, 1) != 1) exit(1);
        if (write(ends[!me][1], &byte, 1) != 1) exit(1);
        if (!me && read(ends[0][0], &byte, 1) != 1) exit(1);
    }
}

static void calls(int me) {
    for (long at = 0; !me && at < count; at++) syscall(SYS_getppid);
}

__attribute__((noinline)) static void deeper(int depth, int me) {
    if (depth > 0) deeper(depth - 1, me);
    else if (!strcmp(kind, "lock")) locks(me);
    else if (!strcmp(kind, "pipe")) pipes(me);
    else calls(me);
    __asm__ volatile("");
}

static void *rounds(void *which) {
    int me = (int)(intptr_t)which;
    if (cpus) pin(me % cpus);
    for (;;) {
        pthread_barrier_wait(&begin);
        deeper(15, me);
        pthread_barrier_wait(&end);
    }
    return 0;
}

static uint64_t now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000ULL + time.tv_nsec;
}

static int loops(void *which) {
    int cpu = (int)(intptr_t)which;
    struct sched_param none = {0};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pin(cpu);
    if (sched_setscheduler(0, SCHED_IDLE, &none)) return 1;
    for (uint64_t before = now(CLOCK_MONOTONIC);;) {
        uint64_t then = now(CLOCK_MONOTONIC);
        if (then - before < AWAY) had[cpu].ns += then - before;
        before = then;
    }
}

static void start_loops(void) {
    static _Alignas(16) char stacks[CPUS_MAX][1 << 14];
    is_spare = 1;
    for (intptr_t cpu = 0; cpu < cpus; cpu++) {
        if (clone(loops, stacks[cpu] + sizeof stacks[cpu], CLONE_VM | SIGCHLD, (void *)cpu) < 0) exit(1);
    }
}

// What is taken until now: the CPU time of all its threads, of which what else runs on these CPUs, and how long an idle one takes to wake up, is none; or of the CPUs.
static double taken(void) {
    if (!is_spare) return (double)now(CLOCK_PROCESS_CPUTIME_ID);
    uint64_t left = 0;
    for (int cpu = 0; cpu < cpus; cpu++) left += had[cpu].ns;
    return (double)now(CLOCK_MONOTONIC) * cpus - (double)left;
}

int main(int many, char **arguments) {
    cpus = many > 1 ? atoi(arguments[1]) : 0;
    words[0][0] = words[1][0] = CONTENDED;
    if (pipe(ends[0]) || pipe(ends[1])) return 1;
    pthread_barrier_init(&begin, 0, 3);
    pthread_barrier_init(&end, 0, 3);
    for (intptr_t me = 0; me < 2; me++) {
        pthread_t thread;
        if (pthread_create(&thread, 0, rounds, (void *)me)) return 1;
    }
    if (many > 2 && !strcmp(arguments[2], "spare") && cpus <= CPUS_MAX) start_loops();
    puts("ready");
    fflush(stdout);
    while (scanf("%15s %ld", kind, &count) == 2) {
        double from = taken();
        pthread_barrier_wait(&begin);
        pthread_barrier_wait(&end);
        printf("took %.1f\n", (taken() - from) / count / (strcmp(kind, "getppid") ? 2 : 1));
        fflush(stdout);
    }
    return 0;
}
