// hanging_stack has a thread whose stack pointer leads to a page that is nowhere until somebody fills it, and nobody does: whoever reads that stack waits. Another
// thread sleeps as usual.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static char *pages;

// A system call touches no stack, so the thread itself never waits for its page.
static void *hangs(void *unused) {
    pthread_setname_np(pthread_self(), "hangs");
    __asm__ volatile("mov %0, %%rsp\n1: mov $34, %%eax\nsyscall\njmp 1b" : : "r"(pages + 2048) : "memory", "rax", "rcx", "r11");
    return unused;
}

__attribute__((noinline)) static void sleeps_beside_it(void) {
    for (;;) sleep(1000);
}

static void *beside(void *unused) {
    pthread_setname_np(pthread_self(), "beside");
    sleeps_beside_it();
    return unused;
}

int main(void) {
    int faults = syscall(SYS_userfaultfd, O_CLOEXEC);
    struct uffdio_api api = {.api = UFFD_API};
    if (faults < 0 || ioctl(faults, UFFDIO_API, &api) < 0) return 1;
    pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct uffdio_register range = {.range = {(unsigned long)pages, 4096}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    if (pages == MAP_FAILED || ioctl(faults, UFFDIO_REGISTER, &range) < 0) return 1;
    pthread_t threads[2];
    pthread_create(&threads[0], NULL, hangs, NULL);
    pthread_create(&threads[1], NULL, beside, NULL);
    usleep(200000);
    puts("ready");
    fflush(stdout);
    for (;;) pause();
}
