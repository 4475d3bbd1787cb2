// Stacks that were made to harm whoever walks them. `hostile scribble`: a thread that stays where it is, 100 calls deep, and another one that overwrites that
// stack without end. `hostile loop`: signal frames that lead to each other. Each runs until it is killed.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile unsigned long sink;
static volatile uint64_t *volatile lowest;
static volatile uint64_t *volatile highest;

// Nothing of it lives on the stack: the stack may say what it wants.
__attribute__((noinline)) static void stay(void) {
    for (;;) sink++;
}

__attribute__((noinline)) static int down(int depth) {
    volatile uint64_t here = 0;
    if (depth == 0) {
        lowest = &here - 16;
        stay();
    }
    int below = down(depth - 1);
    sink += below + here;
    return below + 1;
}

static void *walked(void *nothing) {
    volatile uint64_t here = 0;
    highest = &here;
    down(100);
    return nothing;
}

static void scribble(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, walked, NULL);
    while (!lowest) usleep(1000);
    puts("ready");
    fflush(stdout);
    uint64_t state = 42, code = (uint64_t)stay, stack = (uint64_t)lowest, size = highest - lowest;
    for (;;) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        uint64_t any = state >> 20;
        uint64_t words[] = {any << 17, code + any % 256, stack + any % (8 * size), (stack + any % (8 * size)) & ~7ul, any % 3, (uint64_t)puts + any % 64};
        lowest[(state >> 33) % size] = words[(state >> 60) % 6];
    }
}

static uint64_t restorer;

static void handler(int signal) {
    restorer = (uint64_t)__builtin_return_address(0);
    sink += signal;
}

// Its stack pointer becomes its argument, and it stays.
void spin_on(uint64_t *stack);
__asm__(".text\n.globl spin_on\n.type spin_on,@function\nspin_on:\n.cfi_startproc\nmov %rdi,%rsp\n1: pause\njmp 1b\n.cfi_endproc\n.size spin_on,.-spin_on\n");

static void loop(void) {
    static uint64_t stack[64] __attribute__((aligned(16)));
    signal(SIGUSR1, handler);
    raise(SIGUSR1);
    // The return address is the one behind a signal's frame, whose registers are those of this frame: `struct ucontext` has rsp at 160, rip at 168.
    uint64_t *frame = stack + 16;
    frame[0] = restorer;
    frame[1 + 160 / 8] = (uint64_t)frame;
    frame[1 + 168 / 8] = (uint64_t)spin_on + 3;
    puts("ready");
    fflush(stdout);
    spin_on(frame);
}

int main(int count, char **words) {
    if (count == 2 && !strcmp(words[1], "scribble")) scribble();
    if (count == 2 && !strcmp(words[1], "loop")) loop();
    fprintf(stderr, "usage: hostile scribble|loop\n");
    return 2;
}
