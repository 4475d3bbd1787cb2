// Waits that begin before a recording or in the middle of it, and do not end, or end when they are told to. `waits`: threads wait for a mutex, a condition and a
// pipe from the beginning on; for each line the next of two more begins to wait for the mutex, and says when; then another lock is let go. `vfork`: a thread stands
// in vfork(2) as long as its child sleeps, for good. `many N`: N threads wait for the mutex.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, other = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_mutex_t of_condition = PTHREAD_MUTEX_INITIALIZER;
static int ends[2], arrived;

static unsigned long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

// Each function has code of its own: equal ones would be made one.
#define THREAD(name, work)                                                                                                                                     \
    __attribute__((noinline)) void name(void) {                                                                                                                \
        work;                                                                                                                                                  \
        __asm__ volatile("# " #name);                                                                                                                          \
    }                                                                                                                                                          \
    static void *run_##name(void *unused) {                                                                                                                    \
        __atomic_add_fetch(&arrived, 1, __ATOMIC_RELAXED);                                                                                                     \
        name();                                                                                                                                                \
        return unused;                                                                                                                                         \
    }

static char byte;
static void await(void) {
    pthread_mutex_lock(&of_condition);
    for (;;) pthread_cond_wait(&condition, &of_condition);
}

THREAD(waits_for_mutex, pthread_mutex_lock(&lock))
THREAD(waits_for_condition, await())
THREAD(waits_for_pipe, if (read(ends[0], &byte, 1)) exit(1))
THREAD(begins_first, pthread_mutex_lock(&lock))
THREAD(begins_second, pthread_mutex_lock(&lock))
THREAD(waits_for_other, pthread_mutex_lock(&other); pthread_mutex_unlock(&other))
THREAD(stands_in_vfork, if (vfork() == 0) { prctl(PR_SET_PDEATHSIG, SIGKILL); for (;;) sleep(1000); })

__attribute__((noinline)) void lets_other_go(void) {
    pthread_mutex_unlock(&other);
    __asm__ volatile("");
}

static void start(void *(*run)(void *)) {
    pthread_t thread;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 << 10);
    if (pthread_create(&thread, &small, run, 0)) exit(1);
}

// The last one comes late where many want a CPU; from there to its wait it is a moment.
static void all_wait(int threads) {
    while (__atomic_load_n(&arrived, __ATOMIC_RELAXED) < threads) usleep(1000);
    usleep(300000);
}

static void say(const char *what) {
    printf("%s\n", what);
    fflush(stdout);
}

int main(int count, char **words) {
    char line[64];
    const char *what = count > 1 ? words[1] : "waits";
    if (pipe(ends)) return 1;
    pthread_mutex_lock(&lock);
    pthread_mutex_lock(&other);
    if (!strcmp(what, "many")) {
        for (int at = 0; at < atoi(words[2]); at++) start(run_waits_for_mutex);
        all_wait(atoi(words[2]));
        say("ready");
        for (;;) pause();
    }
    if (!strcmp(what, "vfork")) {
        start(run_stands_in_vfork);
        all_wait(1);
        say("ready");
        for (;;) pause();
    }
    start(run_waits_for_mutex), start(run_waits_for_condition), start(run_waits_for_pipe), start(run_waits_for_other);
    all_wait(4);
    say("ready");
    void *(*late[2])(void *) = {run_begins_first, run_begins_second};
    for (int at = 0; at < 2; at++) {
        if (!fgets(line, sizeof line, stdin)) return 1;
        unsigned long long began = now();
        start(late[at]);
        printf("began %llu\n", began);
        fflush(stdout);
    }
    if (!fgets(line, sizeof line, stdin)) return 1;
    lets_other_go();
    printf("let go %llu\n", now());
    fflush(stdout);
    for (;;) pause();
}
