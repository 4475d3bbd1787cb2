/* remaps COUNT RATE SECONDS: makes COUNT executable mappings that the kernel cannot merge, prints `ready`, then for SECONDS burns CPU in `between_changes`
 * and RATE times a second takes the right to execute from one of them and gives it back. Prints how long the two calls took, `mprotect P50 P99` in ns. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static volatile uint64_t sink;

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

__attribute__((noinline, noclone)) void between_changes(int64_t until) {
    while (now_ns() < until) {
        uint64_t value = sink;
        for (int i = 0; i < 20000; i++) value = value * 6364136223846793005u + 1;
        sink = value;
    }
}

static int by_size(const void *one, const void *other) {
    int64_t difference = *(const int64_t *)one - *(const int64_t *)other;
    return difference < 0 ? -1 : difference > 0;
}

int main(int argc, char **argv) {
    long count = argc > 1 ? atol(argv[1]) : 60000, rate = argc > 2 ? atol(argv[2]) : 100, seconds = argc > 3 ? atol(argv[3]) : 10;
    long made = 0, changes = rate * seconds;
    int self = open("/proc/self/exe", O_RDONLY);
    void **mapped = calloc(count, sizeof *mapped);
    int64_t *took = calloc(changes, sizeof *took);
    if (!mapped || !took) return 1;
    for (; made < count && self >= 0; made++) {
        mapped[made] = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, self, (made & 1) * 8192);
        if (mapped[made] == MAP_FAILED) break;
    }
    printf("made %ld\nready\n", made);
    fflush(stdout);
    int64_t next = now_ns();
    for (long change = 0; change < changes && made > 0; change++) {
        between_changes(next += 1000000000LL / rate);
        void *one = mapped[change * 7919 % made];
        int64_t begun = now_ns();
        mprotect(one, 4096, PROT_READ);
        mprotect(one, 4096, PROT_READ | PROT_EXEC);
        took[change] = now_ns() - begun;
    }
    qsort(took, changes, sizeof *took, by_size);
    printf("mprotect %ld %ld\n", (long)took[changes / 2], (long)took[changes * 99 / 100]);
    return 0;
}
