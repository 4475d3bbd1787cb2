// heap_own: a program with an allocator of its own, which can be interrupted anywhere: calls of it inside its calls, calls that are left by a jump, and
// threads that end inside one. Each when its name arrives on standard input; says when it is done.
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#define PLAIN __attribute__((noinline, noclone))

static char pool[64 << 20];
static size_t taken;
// What happens within the next call.
static __thread enum { NOTHING, INTERRUPTED, LEFT, ENDED } next;
static sigjmp_buf outside;

// Blocks are never used again: an address says which it is.
PLAIN void *malloc(size_t size) {
    int now = next;
    next = NOTHING;
    size_t at = __atomic_fetch_add(&taken, (size + 31) & ~(size_t)15, __ATOMIC_RELAXED);
    if (now == INTERRUPTED) raise(SIGUSR1);
    if (now == LEFT) siglongjmp(outside, 1);
    if (now == ENDED) pthread_exit(NULL);
    if (at + size > sizeof pool) abort();
    return pool + at + 16;
}

PLAIN void free(void *block) {
    if (block) ((char *volatile)block)[-1] = 1;
    __asm__ volatile("" ::: "memory"); // Or the compiler knows that nothing comes of it, and leaves out its calls.
}

PLAIN void *calloc(size_t count, size_t size) {
    return malloc(count * size); // No block was used before: all are zero.
}

PLAIN void *realloc(void *block, size_t size) {
    void *fresh = malloc(size);
    if (block) memcpy(fresh, block, size);
    free(block);
    return fresh;
}

static volatile unsigned long handled;

// Two blocks, one of them goes.
PLAIN static void handler(int number) {
    (void)number;
    void *volatile stays = malloc(48);
    (void)stays;
    void *volatile goes = malloc(80);
    free(goes);
    handled++;
}

PLAIN static void interrupted(void) {
    for (int i = 0; i < 200; i++) {
        next = INTERRUPTED;
        void *volatile block = malloc(160);
        if (i % 2) free(block);
    }
}

PLAIN static void left(void) {
    for (volatile int i = 0; i < 30; i = i + 1) {
        next = LEFT;
        if (!sigsetjmp(outside, 1)) {
            void *volatile block = malloc(320);
            free(block);
        }
    }
}

PLAIN static void *ended(void *unused) {
    next = ENDED;
    return malloc(640) ? unused : NULL;
}

// Signals come when they come; each has its two blocks.
PLAIN static void at_any_time(void) {
    struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
    unsigned long before = handled, blocks = 0;
    setitimer(ITIMER_REAL, &often, NULL);
    while (handled - before < 300 && blocks < 200000) {
        void *volatile block = malloc(96);
        free(block);
        blocks++;
    }
    setitimer(ITIMER_REAL, &never, NULL);
    printf("counted %lu %lu\n", blocks, handled - before);
}

int main(void) {
    char line[64];
    setvbuf(stdout, NULL, _IONBF, 0);
    setvbuf(stdin, NULL, _IONBF, 0);
    signal(SIGUSR1, handler);
    signal(SIGALRM, handler);
    puts("ready");
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (!strcmp(line, "interrupted")) interrupted();
        else if (!strcmp(line, "left")) left();
        else if (!strcmp(line, "any time")) at_any_time();
        else if (!strcmp(line, "ended")) {
            for (int i = 0; i < 20; i++) {
                pthread_t thread;
                if (pthread_create(&thread, NULL, ended, NULL)) abort();
                pthread_join(thread, NULL);
            }
        } else abort();
        puts("done");
    }
    return 0;
}
