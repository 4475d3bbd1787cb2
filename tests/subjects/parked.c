// Threads that stand still in known functions: parked THREADS [running [COUNT]|gaps [COUNT]|together]. Each sleeps below a chain of calls; one of each other kind
// beside them, and so many (1, none beside gaps) that want a CPU all the time. Where their stacks lie together, they are all in one mapping, and not in two each.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static volatile unsigned long turns;
static int arrived;
static int ends[2];

__attribute__((noinline)) static void waits_for_the_lock(void) {
    __atomic_add_fetch(&arrived, 1, __ATOMIC_RELAXED);
    pthread_mutex_lock(&held);
    turns++;
}
__attribute__((noinline)) static void middle_of_the_wait(int depth) {
    if (depth > 0) {
        middle_of_the_wait(depth - 1);
        turns++;
        return;
    }
    waits_for_the_lock();
    turns++;
}
static void *parked(void *name) {
    pthread_setname_np(pthread_self(), name);
    middle_of_the_wait(5);
    return 0;
}
__attribute__((noinline)) static void sleeps_long(void) {
    sleep(1000);
    turns++;
}
static void *sleeper(void *name) {
    pthread_setname_np(pthread_self(), name);
    sleeps_long();
    return 0;
}
__attribute__((noinline)) static void reads_a_silent_pipe(void) {
    char byte;
    if (read(ends[0], &byte, 1) < 0) abort();
    turns++;
}
static void *reader(void *name) {
    pthread_setname_np(pthread_self(), name);
    reads_a_silent_pipe();
    return 0;
}
__attribute__((noinline)) static void spins_for_ever(void) {
    for (;;) turns++;
}
// Looks at the clock without end, and tells the longest time in which it could not, once a second.
static void *gaps(void *name) {
    pthread_setname_np(pthread_self(), name);
    struct timespec now;
    double last = 0, told = 0, longest = 0;
    for (;;) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        double ms = now.tv_sec * 1e3 + now.tv_nsec / 1e6;
        if (last && ms - last > longest) longest = ms - last;
        last = ms;
        if (ms - told > 1000) {
            if (told) printf("gap %.3f\n", longest), fflush(stdout);
            clock_gettime(CLOCK_MONOTONIC, &now);
            told = last = now.tv_sec * 1e3 + now.tv_nsec / 1e6;
            longest = 0;
        }
    }
    return 0;
}
static void *spinner(void *name) {
    pthread_setname_np(pthread_self(), name);
    spins_for_ever();
    return 0;
}

static void *deep_one(void *name) {
    pthread_setname_np(pthread_self(), name);
    middle_of_the_wait(600);
    return 0;
}

enum { STACK = 128 << 10 };
static char *stacks;

static void start(void *(*what)(void *), char *name) {
    pthread_t thread;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    if (stacks) {
        pthread_attr_setstack(&attr, stacks, STACK);
        stacks += STACK;
    } else {
        pthread_attr_setstacksize(&attr, STACK);
    }
    if (pthread_create(&thread, &attr, what, name)) abort();
}
// Of one mapping, and of small pages: each thread touches two of them.
static char *room_for(long threads) {
    char *room = mmap(0, threads * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (room == MAP_FAILED || madvise(room, threads * STACK, MADV_NOHUGEPAGE)) abort();
    return room;
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    pthread_mutex_lock(&held);
    if (pipe(ends)) abort();
    if (argc > 2 && !strcmp(argv[2], "together")) stacks = room_for(threads + 4L);
    start(sleeper, "sleeper");
    start(reader, "reader");
    start(deep_one, "deep");
    int is_running = argc > 2 && !strcmp(argv[2], "running");
    int spinners = argc > 3 ? atoi(argv[3]) : is_running;
    if (argc > 2 && !strcmp(argv[2], "gaps")) start(gaps, "gaps");
    for (int at = 0; at < threads; at++) start(parked, "worker");
    for (int at = 0; at < spinners; at++) start(spinner, "spinner");
    // The last one comes late where many want a CPU; from there to its wait it is a moment.
    while (__atomic_load_n(&arrived, __ATOMIC_RELAXED) < threads + 1) usleep(1000);
    usleep(300000);
    puts("ready");
    fflush(stdout);
    pause();
}
