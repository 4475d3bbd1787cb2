/* jit [FILE [OFFSET]]: runs a loop of machine code that it made itself, until SIGTERM. Without FILE the code lies in anonymous memory, as a compiler at run
 * time puts it; with FILE and OFFSET the code is written into that file there (whatever else the file holds stays), which is then mapped and run; with FILE alone, a
 * device, the file is mapped privately and the code written into that memory. Prints `code ADDRESS LENGTH`, then `ready`. x86-64 and arm64. */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static volatile sig_atomic_t stopped;

static void stop(int signal) { (void)signal; stopped = 1; }

#if defined(__x86_64__)
/* push %rbp; mov %rsp,%rbp; mov $3000000,%ecx; 1: dec %ecx; jnz 1b; pop %rbp; ret */
static const unsigned char CODE[] = {0x55, 0x48, 0x89, 0xe5, 0xb9, 0xc0, 0xc6, 0x2d, 0x00, 0xff, 0xc9, 0x75, 0xfc, 0x5d, 0xc3};
#elif defined(__aarch64__)
/* stp x29,x30,[sp,#-16]!; mov x29,sp; movz w9,#0x2d,lsl #16; 1: subs w9,w9,#1; b.ne 1b; ldp x29,x30,[sp],#16; ret */
static const uint32_t CODE[] = {0xa9bf7bfd, 0x910003fd, 0x52a005a9, 0x71000529, 0x54ffffe1, 0xa8c17bfd, 0xd65f03c0};
#endif

__attribute__((noinline, noclone)) void call_it(void (*code)(void)) {
    while (!stopped) {
        code();
        __asm__ volatile("" ::: "memory");
    }
}

int main(int argc, char **argv) {
    long page = sysconf(_SC_PAGESIZE);
    unsigned char *at;
    signal(SIGTERM, stop);
    if (argc > 2) {
        long offset = atol(argv[2]), base = offset / page * page;
        int file = open(argv[1], O_RDWR);
        if (file < 0 || pwrite(file, CODE, sizeof CODE, offset) != (ssize_t)sizeof CODE) return 2;
        unsigned char *mapped = mmap(NULL, 2 * page, PROT_READ | PROT_EXEC, MAP_SHARED, file, base);
        if (mapped == MAP_FAILED) return 3;
        at = mapped + (offset - base);
        close(file);
    } else {
        int file = argc > 1 ? open(argv[1], O_RDWR) : -1;
        if (argc > 1 && file < 0) return 2;
        at = mmap(NULL, page, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | (file < 0 ? MAP_ANONYMOUS : 0), file, 0);
        if (at == MAP_FAILED) return 3;
        memcpy(at, CODE, sizeof CODE);
        __builtin___clear_cache((char *)at, (char *)at + sizeof CODE);
    }
    printf("code %llx %zx\nready\n", (unsigned long long)(uintptr_t)at, sizeof CODE);
    fflush(stdout);
    call_it((void (*)(void))(uintptr_t)at);
    return 0;
}
