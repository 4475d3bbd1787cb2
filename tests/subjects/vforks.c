// vforks has threads that wait, uninterruptibly, for a child that they have made and that does not go on: it sleeps. One has made it as posix_spawn does (CLONE_VFORK,
// on a stack of its own) by a system call of its own; with the argument `library`, one by the C library's clone, and one by its vfork, too. Another thread sleeps as
// usual. `short N`: N times a child is made by vfork that sleeps for 20 ms.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile int turns;

static char stack_of_child[64 << 10];

// The child dies with us, and else sleeps without end.
__attribute__((noinline)) static void waits_for_its_child(void) {
    static struct timespec long_time = {1000, 0};
    long flags = CLONE_VM | CLONE_VFORK | SIGCHLD, result;
    __asm__ volatile(
        "xor %%r10d, %%r10d\n xor %%r8d, %%r8d\n xor %%edx, %%edx\n syscall\n test %%eax, %%eax\n jnz 2f\n"
        "mov $157, %%eax\n mov $1, %%edi\n mov $9, %%esi\n syscall\n"
        "1: mov $35, %%eax\n mov %[sleep], %%rdi\n xor %%esi, %%esi\n syscall\n jmp 1b\n"
        "2:\n"
        : "=a"(result)
        : "a"(SYS_clone), "D"(flags), "S"(stack_of_child + sizeof stack_of_child), [sleep] "r"(&long_time)
        : "memory", "rcx", "rdx", "r8", "r10", "r11", "cc");
    turns += result != 0;
}
static void *vforker(void *name) {
    pthread_setname_np(pthread_self(), name);
    waits_for_its_child();
    return 0;
}
static char other_stack[64 << 10];
static int sleeps_without_end(void *unused) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) sleep(1000);
    return unused != 0;
}
__attribute__((noinline)) static void waits_in_clone(void) {
    turns += clone(sleeps_without_end, other_stack + sizeof other_stack, CLONE_VM | CLONE_VFORK | SIGCHLD, 0) != 0;
}
static void *cloner(void *name) {
    pthread_setname_np(pthread_self(), name);
    waits_in_clone();
    return 0;
}
__attribute__((noinline)) static void waits_in_vfork(void) {
    if (vfork() == 0) sleeps_without_end(0);
    turns++;
}
static void *waiter(void *name) {
    pthread_setname_np(pthread_self(), name);
    waits_in_vfork();
    return 0;
}
__attribute__((noinline)) static void waits_a_moment(void) {
    pid_t child = vfork();
    if (child == 0) {
        usleep(20000);
        _exit(0);
    }
    turns += child != 0;
}
__attribute__((noinline)) static void sleeps_beside_it(void) {
    sleep(1000);
    turns++;
}
static void *beside(void *name) {
    pthread_setname_np(pthread_self(), name);
    sleeps_beside_it();
    return 0;
}

int main(int count, char **words) {
    pthread_t threads[4];
    if (count > 2 && !strcmp(words[1], "short")) {
        for (int at = 0; at < atoi(words[2]); at++) waits_a_moment(), wait(0);
        return 0;
    }
    pthread_create(&threads[0], 0, beside, "beside");
    pthread_create(&threads[1], 0, vforker, "vforker");
    if (count > 1 && !strcmp(words[1], "library")) {
        pthread_create(&threads[2], 0, cloner, "cloner");
        pthread_create(&threads[3], 0, waiter, "waiter");
    }
    puts("ready");
    fflush(stdout);
    pthread_join(threads[0], 0);
    return 0;
}
