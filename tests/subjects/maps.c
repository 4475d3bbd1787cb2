/* maps COUNT: makes COUNT executable mappings that the kernel cannot merge (one page each of its own file, never the next page of a neighbour), then burns CPU in
 * `among_mappings` until SIGTERM. Prints `ready` when all are there, with how many it got. */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

static volatile sig_atomic_t stopped;
static volatile uint64_t sink;

static void stop(int signal) { (void)signal; stopped = 1; }

__attribute__((noinline, noclone)) void among_mappings(void) {
    __asm__ volatile("" : : "r"(__builtin_frame_address(0))); /* a leaf, but with a frame of its own: its caller is not skipped */
    uint64_t value = sink;
    for (int i = 0; i < 300000; i++) value = value * 6364136223846793005u + 1;
    sink = value;
}

int main(int argc, char **argv) {
    long count = argc > 1 ? atol(argv[1]) : 60000, made = 0;
    int self = open("/proc/self/exe", O_RDONLY);
    signal(SIGTERM, stop);
    for (long i = 0; i < count && self >= 0; i++) {
        if (mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, self, (i & 1) * 8192) == MAP_FAILED) break;
        made++;
    }
    printf("made %ld\nready\n", made);
    fflush(stdout);
    while (!stopped) among_mappings();
    return 0;
}
