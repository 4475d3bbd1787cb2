// Stacks that are hard to walk without frame pointers, one after the other: each burns CPU time in `burn`, below functions named after it.
// `walks NAME SECONDS` runs one, or `all` of them in turn; with a third word over and over.
#define _GNU_SOURCE
#include <alloca.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile unsigned long sink;
static double seconds;

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

// No call in the loop but every few milliseconds, and then through the PLT and into the vDSO.
__attribute__((noinline)) void burn(void) {
    double end = now() + seconds;
    do {
        for (int at = 0; at < 1000000; at++) sink += at;
    } while (now() < end);
}

__attribute__((noinline)) int deep_walk(int depth) {
    int below = 0;
    if (depth == 0) burn();
    else below = deep_walk(depth - 1);
    sink += below;
    return below + 1;
}

__attribute__((noinline)) void alloca_walk(size_t bytes) {
    char *room = alloca(bytes);
    memset(room, 1, bytes);
    burn();
    sink += room[bytes / 2];
}

// A stack that is aligned anew: its CFA is read from memory.
__attribute__((noinline)) void aligned_walk(size_t bytes) {
    char aligned[256] __attribute__((aligned(128)));
    char *room = alloca(bytes);
    memset(room, 1, bytes);
    memset(aligned, 1, sizeof aligned);
    burn();
    sink += aligned[3] + room[1];
}

static void handler(int signal) {
    burn();
    sink += signal;
}

// The handler runs on a stack of its own, and its caller was interrupted, not called.
__attribute__((noinline)) void signal_walk(void) {
    stack_t other = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};
    sigaltstack(&other, NULL);
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    sink++;
}

// Its call is its last instruction: the return address is the next function's.
__attribute__((noinline, noreturn)) static void never_returns(jmp_buf *back) {
    burn();
    longjmp(*back, 1);
}

__attribute__((noinline)) void noreturn_walk(void) {
    jmp_buf back;
    if (setjmp(back) == 0) never_returns(&back);
    sink++;
}

static ucontext_t main_context, other_context;

static void on_context(void) {
    burn();
    sink++;
}

__attribute__((noinline)) void context_walk(void) {
    getcontext(&other_context);
    other_context.uc_stack.ss_sp = malloc(1 << 16);
    other_context.uc_stack.ss_size = 1 << 16;
    other_context.uc_link = &main_context;
    makecontext(&other_context, on_context, 0);
    swapcontext(&main_context, &other_context);
    sink++;
}

static void *thread_walk(void *nothing) {
    burn();
    sink++;
    return nothing;
}

__attribute__((noinline)) void in_thread(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, thread_walk, NULL);
    pthread_join(thread, NULL);
    sink++;
}

static int compare(const void *left, const void *right) {
    static int burnt;
    if (!burnt++) burn();
    return *(const int *)left - *(const int *)right;
}

// A callback of a library that was built by others.
__attribute__((noinline)) void callback_walk(void) {
    int numbers[] = {3, 1, 2};
    qsort(numbers, 3, sizeof(int), compare);
    sink += numbers[0];
}

static void run(const char *name) {
    if (!strcmp(name, "deep")) deep_walk(200);
    if (!strcmp(name, "deepest")) deep_walk(5000);
    if (!strcmp(name, "alloca")) alloca_walk(3000 + sink % 7);
    if (!strcmp(name, "aligned")) aligned_walk(300 + sink % 7);
    if (!strcmp(name, "signal")) signal_walk();
    if (!strcmp(name, "noreturn")) noreturn_walk();
    if (!strcmp(name, "context")) context_walk();
    if (!strcmp(name, "thread")) in_thread();
    if (!strcmp(name, "callback")) callback_walk();
}

int main(int count, char **words) {
    const char *all[] = {"deep", "alloca", "aligned", "signal", "noreturn", "context", "thread", "callback", NULL};
    if (count < 3) return 2;
    seconds = atof(words[2]);
    if (count > 3) puts("ready"), fflush(stdout);
    do {
        if (strcmp(words[1], "all")) run(words[1]);
        else for (const char **name = all; *name; name++) run(*name);
    } while (count > 3);
    return 0;
}
