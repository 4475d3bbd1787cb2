// Touches pages that are not there: three quarters of them in `many`, a quarter in `few`. Says at the end how many faults the kernel counted for it.
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define PAGE 4096L
#define PAGES 40000L

__attribute__((noinline)) static void touch(volatile char *at, long pages) {
    for (long page = 0; page < pages; page++) at[page * PAGE] = 1;
}

__attribute__((noinline)) static void many(volatile char *at) {
    touch(at, PAGES / 4 * 3);
    __asm__ volatile("");
}

__attribute__((noinline)) static void few(volatile char *at) {
    touch(at + PAGES / 4 * 3 * PAGE, PAGES / 4);
    __asm__ volatile("");
}

int main(void) {
    for (int round = 0; round < 25; round++) {
        char *at = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED) return 1;
        madvise(at, PAGES * PAGE, MADV_NOHUGEPAGE);
        many(at);
        few(at);
        munmap(at, PAGES * PAGE);
    }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("%ld\n", used.ru_minflt + used.ru_majflt);
    return 0;
}
