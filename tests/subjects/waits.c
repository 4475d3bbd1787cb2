//! Waits that are known: `sleep` sleeps 30 ms in `naps` and waits 70 ms for a slow pipe in `reads`, again and again; `lock` has three threads that hold one
//! lock for 2, 6 and 12 ms each, and prints what they have waited and how long each of them had it, in ns, when it is told to; `threads` starts a thread for each line;
//! `depths` naps three times 1 ms at each of so many depths as a line says.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int ends[2];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_ullong waited, held[3];
static atomic_int over;

static unsigned long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static void nap(long ns) {
    struct timespec time = {0, ns};
    nanosleep(&time, 0);
}

__attribute__((noinline)) void naps(void) {
    nap(30000000);
    __asm__ volatile("");
}

__attribute__((noinline)) void descends(long depth) {
    if (depth == 0) nap(1000000);
    else descends(depth - 1);
    __asm__ volatile("");
}

__attribute__((noinline)) void reads(void) {
    char byte;
    if (read(ends[0], &byte, 1) != 1) exit(1);
    __asm__ volatile("");
}

static void *asked;
static int request[2];

static void *writes(void *unused) {
    char byte = 0;
    (void)unused;
    while (read(request[0], &byte, 1) == 1) {
        nap(70000000);
        if (write(ends[1], &byte, 1) != 1) exit(1);
    }
    return asked;
}

__attribute__((noinline)) void acquire(void) {
    unsigned long long from = now();
    pthread_mutex_lock(&lock);
    waited += now() - from;
}

#define HOLDER(name, ms, at)                                                                                                                                   \
    __attribute__((noinline)) void name(void) {                                                                                                                \
        acquire();                                                                                                                                             \
        unsigned long long from = now();                                                                                                                       \
        nap(ms * 1000000l);                                                                                                                                    \
        held[at] += now() - from;                                                                                                                              \
        pthread_mutex_unlock(&lock);                                                                                                                           \
        __asm__ volatile("");                                                                                                                                  \
    }
HOLDER(holds_one, 2, 0)
HOLDER(holds_three, 6, 1)
HOLDER(holds_six, 12, 2)

static void *turns(void *hold) {
    while (!over) {
        ((void (*)(void))hold)();
        nap(100000);
    }
    return 0;
}

static void *ends_at_once(void *unused) { return unused; }

__attribute__((noinline)) void starts(void) {
    pthread_t thread;
    pthread_create(&thread, 0, ends_at_once, 0);
    pthread_join(thread, 0);
    __asm__ volatile("");
}

int main(int count, char **words) {
    char line[64];
    const char *what = count > 1 ? words[1] : "sleep";
    pthread_t threads[3];
    if (pipe(ends) || pipe(request)) return 1;
    puts("ready");
    fflush(stdout);
    if (!strcmp(what, "sleep")) {
        char byte = 0;
        pthread_create(&threads[0], 0, writes, 0);
        for (;;) {
            naps();
            if (write(request[1], &byte, 1) != 1) return 1;
            reads();
        }
    }
    if (!strcmp(what, "depths")) {
        while (fgets(line, sizeof line, stdin)) {
            for (long depth = 0; depth < atol(line); depth++) {
                for (int turn = 0; turn < 3; turn++) descends(depth);
            }
            puts("done");
            fflush(stdout);
        }
        return 0;
    }
    if (!strcmp(what, "threads")) {
        while (fgets(line, sizeof line, stdin)) {
            starts();
            puts("done");
            fflush(stdout);
        }
        return 0;
    }
    if (!fgets(line, sizeof line, stdin)) return 1;
    void (*holders[3])(void) = {holds_one, holds_three, holds_six};
    for (int at = 0; at < 3; at++) pthread_create(&threads[at], 0, turns, (void *)holders[at]);
    sleep(3);
    over = 1;
    for (int at = 0; at < 3; at++) pthread_join(threads[at], 0);
    printf("waited %llu %llu %llu %llu\n", waited, held[0], held[1], held[2]);
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin)) return 1;
    return 0;
}
