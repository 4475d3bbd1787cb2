// unanswered has a page that is nowhere until somebody fills it, and nobody does: whoever touches it waits. It prints the address of that page and of one that
// can be read, and stays until it is killed.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void) {
    int faults = syscall(SYS_userfaultfd, O_CLOEXEC);
    struct uffdio_api api = {.api = UFFD_API};
    if (faults < 0 || ioctl(faults, UFFDIO_API, &api) < 0) return 1;
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct uffdio_register range = {.range = {(unsigned long)pages, 4096}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    if (pages == MAP_FAILED || ioctl(faults, UFFDIO_REGISTER, &range) < 0) return 1;
    pages[4096] = 42;
    printf("%lu %lu\n", (unsigned long)pages, (unsigned long)pages + 4096);
    fflush(stdout);
    for (;;) pause();
}
