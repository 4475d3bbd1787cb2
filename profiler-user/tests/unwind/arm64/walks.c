/* Stacks of arm64 that are captured as fixtures by `capture.sh`, without a C library. Each function is one shape of frame. */
typedef unsigned long word;
static volatile word sink;

static long call(long number, long a, long b, long c, long d) {
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c, x3 __asm__("x3") = d;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
}

/* The return address is in x30 alone. */
__attribute__((noinline, noclone)) word stop_in_leaf(word value) { return value * 3 + 1; }

/* A frame without frame pointer: the return address is saved at the low end, the CFA found from sp. */
__attribute__((noinline, noclone)) word plain(word value) { return stop_in_leaf(value + sink) + sink; }

/* A frame of 40,000 bytes: what is saved lies thousands of words from the CFA. */
__attribute__((noinline, noclone)) word large(word value) {
    volatile word room[5000];
    room[value % 5000] = value;
    return plain(room[(value + 1) % 5000] + value) + room[2];
}

/* Room of a size that is not known before it runs: the CFA is found from x29. */
__attribute__((noinline, noclone)) word changing(word value) {
    volatile word *room = __builtin_alloca((value & 7) * 64 + 64);
    room[0] = value;
    return large(room[0] & 3) + room[1];
}

__attribute__((noinline, noclone)) word descend(word depth) {
    word below = depth == 0 ? changing(5) : descend(depth - 1);
    return below + sink;
}

/* What a signal interrupts, in a leaf: its x30 is known again behind the handler's frame. */
__attribute__((noinline, noclone)) void handle(int signal) { sink += descend((word)signal & 1); }

struct action { void (*handler)(int); word flags; void (*restorer)(void); word mask; };

__attribute__((noinline, noclone)) word interrupted(word value) {
    __asm__ volatile("brk_here: mov x8, #129\n mov x0, %0\n mov x1, #10\n svc #0" : : "r"(value) : "x0", "x1", "x8", "memory");
    return value + 1;
}

__attribute__((noinline, noclone)) word signalled(void) {
    struct action action = { handle, 0, 0, 0 };
    call(134, 10, (long)&action, 0, 8);
    return interrupted((word)call(172, 0, 0, 0, 0)) + sink;
}

__attribute__((noinline)) void begin(void) {
    sink = descend(2);
    sink += signalled();
    call(94, 0, 0, 0, 0);
}

__asm__(".globl _start\n.type _start, %function\n_start:\n.cfi_startproc\n.cfi_undefined x30\nmov x29, #0\nmov x30, #0\nbl begin\n.cfi_endproc\n.size _start, .-_start\n");
