//! Makes and gives back handles of its own, in known numbers, when it is told to: what custom profiles count.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PLAIN __attribute__((noinline, noclone))
#define END __asm__ volatile("" ::: "memory")

#if defined(__x86_64__)
// A mark as sys/sdt.h makes them (version 3 of its notes), with two arguments and a semaphore.
#define MARK(name, one, two)                                                                                                      \
    __asm__ volatile("990: nop\n"                                                                                                 \
                     ".pushsection .note.stapsdt,\"\",\"note\"\n.balign 4\n.4byte 992f-991f,994f-993f,3\n991: .asciz \"stapsdt\"\n" \
                     "992: .balign 4\n993: .8byte 990b\n.8byte _.stapsdt.base\n.8byte handles_" name "_semaphore\n"                \
                     ".asciz \"handles\"\n.asciz \"" name "\"\n.asciz \"8@%0 -4@%1\"\n994: .balign 4\n.popsection\n"               \
                     ".ifndef _.stapsdt.base\n.pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n"             \
                     ".weak _.stapsdt.base\n.hidden _.stapsdt.base\n_.stapsdt.base: .space 1\n.popsection\n.endif\n" ::"nor"(one),  \
                     "nor"(two))
volatile unsigned short handles_begin_semaphore __attribute__((section(".probes"))) = 0;
volatile unsigned short handles_end_semaphore __attribute__((section(".probes"))) = 0;
#else
#define MARK(name, one, two) END
#endif

PLAIN void *handle_open(unsigned long size) {
    void *made = size ? malloc(16) : NULL;
    END;
    return made;
}

PLAIN void handle_close(void *handle) {
    free(handle);
    END;
}

PLAIN void shared_add(long key) {
    __asm__ volatile("" ::"r"(key));
}

PLAIN void shared_remove(long key) {
    __asm__ volatile("" ::"r"(key));
}

PLAIN void *leaks_three(void) {
    void *last = NULL;
    for (int i = 0; i < 3; i++) last = handle_open(100);
    END;
    return last;
}

PLAIN void leaks_five(void) {
    for (int i = 0; i < 5; i++) handle_open(7);
    END;
}

PLAIN void balances(void) {
    for (int i = 0; i < 50; i++) handle_close(handle_open(1000));
    if (handle_open(0)) exit(3);
    END;
}

static int to_child;
static pid_t child;

// Begun before anybody looks, so that both processes are probed when the first key is added.
static void begin_child(void) {
    int ends[2];
    char word;
    if (pipe(ends) || (child = fork()) < 0) exit(3);
    if (child == 0) {
        close(ends[1]);
        if (read(ends[0], &word, 1) != 1) _exit(0);
        // Some of them are the parent's, and twelve nobody's.
        for (long key = 1; key <= 6; key++) shared_remove(key);
        for (long key = 101; key <= 112; key++) shared_remove(key);
        _exit(0);
    }
    close(ends[0]);
    to_child = ends[1];
}

PLAIN void in_a_child(void) {
    for (long key = 1; key <= 10; key++) shared_add(key);
    shared_add(10);  // Takes the place of the one that is there.
    if (write(to_child, "x", 1) != 1 || waitpid(child, NULL, 0) != child) exit(3);
    END;
}

PLAIN void marks(void) {
#if defined(__x86_64__)
    for (long i = 0; i < 8; i++) {
        volatile int weight = 11;
        if (handles_begin_semaphore) MARK("begin", i, weight);
        if (i < 5 && handles_end_semaphore) MARK("end", i, weight);
    }
#endif
    END;
}

static void *sleeps(void *unused) {
    sleep(1000);
    return unused;
}

static void *returns(void *unused) {
    return unused;
}

PLAIN void starts_threads(void) {
    pthread_t thread;
    for (int i = 0; i < 3; i++)
        if (pthread_create(&thread, NULL, sleeps, NULL)) exit(3);
    for (int i = 0; i < 5; i++)
        if (pthread_create(&thread, NULL, returns, NULL) || pthread_join(thread, NULL)) exit(3);
    END;
}

PLAIN void maps(void) {
    void *last = NULL;
    for (int i = 0; i < 4; i++) last = mmap(NULL, 3 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (munmap(last, 3 << 20)) exit(3);
    END;
}

int main(void) {
    char line[64];
    begin_child();
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        leaks_three();
        leaks_five();
        balances();
        handle_close(NULL);
        in_a_child();
        marks();
        maps();
        starts_threads();
        puts("done");
        fflush(stdout);
    }
    return 0;
}
