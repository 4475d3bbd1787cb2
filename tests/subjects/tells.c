//! An allocator of its own, without a name that anybody knows, that tells of the blocks it has sampled by the marks that OpenTelemetry has agreed on; rounds of
//! known numbers when it is told to. With WRAPS its memory is malloc's.
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#ifdef WRAPS
#include <stdlib.h>
#endif

#define PLAIN __attribute__((noinline, noclone))
#define END __asm__ volatile("" ::: "memory")

// A mark as sys/sdt.h makes them (version 3 of its notes), with a semaphore. `arguments`: where they are, in the note's words.
#define MARK(name, arguments, ...)                                                                                                \
    __asm__ volatile("990: nop\n"                                                                                                 \
                     ".pushsection .note.stapsdt,\"\",\"note\"\n.balign 4\n.4byte 992f-991f,994f-993f,3\n991: .asciz \"stapsdt\"\n" \
                     "992: .balign 4\n993: .8byte 990b\n.8byte _.stapsdt.base\n.8byte otel_memory_" name "_semaphore\n"            \
                     ".asciz \"otel_memory\"\n.asciz \"" name "\"\n.asciz \"" arguments "\"\n994: .balign 4\n.popsection\n"      \
                     ".ifndef _.stapsdt.base\n.pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n"             \
                     ".weak _.stapsdt.base\n.hidden _.stapsdt.base\n_.stapsdt.base: .space 1\n.popsection\n.endif\n" ::__VA_ARGS__)
volatile unsigned short otel_memory_alloc_semaphore __attribute__((section(".probes"))) = 0;
volatile unsigned short otel_memory_free_semaphore __attribute__((section(".probes"))) = 0;

static char *next, *end;

static void *take(unsigned long size) {
#ifdef WRAPS
    return malloc(size);
#else
    if (next == NULL || next + size > end) {
        next = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        end = next + (1 << 20);
    }
    void *block = next;
    next += (size + 15) & ~15ul;
    return block;
#endif
}

// One of `of` blocks is told, as a sampler would do it; all three numbers are wherever the compiler has them.
PLAIN void *pool_take(unsigned long size, unsigned long of) {
    void *block = take(size);
    if (otel_memory_alloc_semaphore) MARK("alloc", "8@%0 8@%1 8@%2", "r"(block), "r"(size), "m"(*(unsigned long[]){size * of}));
    END;
    return block;
}

// The same of blocks of one size, which is a number in the note.
PLAIN void *pool_take_small(void) {
    void *volatile block = take(48);
    if (otel_memory_alloc_semaphore) MARK("alloc", "8@%0 -4@%1 4@%2", "m"(block), "n"(48), "r"(4800u));
    END;
    return block;
}

PLAIN void pool_give(void *block) {
    if (otel_memory_free_semaphore) MARK("free", "8@%0", "nor"(block));
#ifdef WRAPS
    free(block);
#endif
    END;
}

PLAIN void keeps(void) {
    for (int i = 0; i < 10; i++) pool_take(1000, 64);
    END;
}

PLAIN void passes(void) {
    for (int i = 0; i < 20; i++) pool_give(pool_take_small());
    END;
}

PLAIN void returns_later(void) {
    void *blocks[8];
    for (int i = 0; i < 8; i++) blocks[i] = pool_take(100, 1);
    for (int i = 0; i < 6; i++) pool_give(blocks[i]);
    END;
}

// Never told of before.
PLAIN void gives_others(void) {
    static long others[3];
    (void)others;
#ifndef WRAPS
    for (int i = 0; i < 3; i++) pool_give(&others[i]);
#endif
    END;
}

static void say(const char *line) {
    if (write(1, line, strlen(line)) < 0) _exit(3);
}

int main(void) {
    char word[16];
    say("ready\n");
    while (read(0, word, sizeof word) > 0) {
        keeps();
        passes();
        returns_later();
        gives_others();
        say("done\n");
    }
    return 0;
}
