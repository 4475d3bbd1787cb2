// vforks has a thread that waits, uninterruptibly, for a child that it has made as posix_spawn does (CLONE_VFORK, on a stack of its own) and that does not go on: it
// sleeps. Another thread sleeps as usual.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile int turns;

static char stack_of_child[64 << 10];

// The C library's own functions have no rules at the system call: there the walk would end. The child dies with us, and else sleeps without end.
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
__attribute__((noinline)) static void sleeps_beside_it(void) {
    sleep(1000);
    turns++;
}
static void *beside(void *name) {
    pthread_setname_np(pthread_self(), name);
    sleeps_beside_it();
    return 0;
}

int main(void) {
    pthread_t threads[2];
    pthread_create(&threads[0], 0, beside, "beside");
    pthread_create(&threads[1], 0, vforker, "vforker");
    puts("ready");
    fflush(stdout);
    pthread_join(threads[0], 0);
    return 0;
}
