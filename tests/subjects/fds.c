//! Gets descriptors in every way, closes some in every way, and prints those that it has. When it is told to.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/memfd.h>
#include <linux/openat2.h>
#include <linux/perf_event.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define PLAIN __attribute__((noinline, noclone))
#define END __asm__ volatile("")

static int had(int fd) {
    if (fd < 0) {
        perror("a descriptor");
        exit(3);
    }
    return fd;
}

PLAIN static void files(void) {
    struct open_how how = {.flags = O_RDONLY};
    had(open("/dev/null", O_RDONLY));
    had(openat(AT_FDCWD, "/dev/null", O_RDONLY | O_CLOEXEC));
    had(syscall(SYS_openat2, AT_FDCWD, "/dev/null", &how, sizeof how));
    had(creat("/dev/null", 0600));
    if (open("/there/is/nothing", O_RDONLY) != -1) exit(3);
    END;
}

PLAIN static void sockets(void) {
    int pair[2];
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    int listening = had(socket(AF_INET, SOCK_STREAM, 0));
    if (bind(listening, (void *)&at, sizeof at) || listen(listening, 4) || getsockname(listening, (void *)&at, &length)) exit(3);
    for (int turn = 0; turn < 2; turn++) {
        int calling = had(socket(AF_INET, SOCK_STREAM, 0));
        if (connect(calling, (void *)&at, sizeof at)) exit(3);
        had(turn ? accept(listening, NULL, NULL) : accept4(listening, NULL, NULL, SOCK_CLOEXEC));
    }
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) exit(3);
    END;
}

PLAIN static void pipes(void) {
    int ends[2];
    if (pipe(ends) || pipe2(ends, O_CLOEXEC)) exit(3);
    close(ends[0]);
    END;
}

PLAIN static void duplicates(void) {
    int fd = had(dup(1));
    had(dup3(1, had(dup(1)), O_CLOEXEC));  // Over a live one: that one is no more.
    had(fcntl(1, F_DUPFD, 100));
    had(fcntl(1, F_DUPFD_CLOEXEC, 100));
    had(dup2(1, 500));
    had(dup2(1, 500));
    had(dup2(fd, fd));  // The same: no new one.
    close(12345);       // None.
    END;
}

PLAIN static void events(void) {
    sigset_t none;
    sigemptyset(&none);
    had(eventfd(0, EFD_CLOEXEC));
    had(epoll_create(1));
    had(epoll_create1(0));
    had(timerfd_create(CLOCK_MONOTONIC, 0));
    int fd = had(signalfd(-1, &none, 0));
    had(signalfd(fd, &none, 0));  // Changes that one.
    had(inotify_init());
    had(inotify_init1(IN_CLOEXEC));
    had(syscall(SYS_pidfd_open, getpid(), 0));
    END;
}

PLAIN static void others(void) {
    struct perf_event_attr attr = {.type = PERF_TYPE_SOFTWARE, .size = sizeof attr, .config = PERF_COUNT_SW_DUMMY};
    union bpf_attr map = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
    had(memfd_create("mine", 0));
    had(syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0));
    had(syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof map));
    END;
}

PLAIN static void ranges(void) {
    int fd = had(fcntl(1, F_DUPFD, 700));
    for (int i = 1; i < 20; i++) had(dup2(1, fd + i));
    if (syscall(SYS_close_range, fd + 5, fd + 14, 0)) exit(3);
    END;
}

PLAIN static void *threaded(void *unused) {
    had(open("/dev/zero", O_RDONLY));
    END;
    return unused;
}

static void in_thread(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, threaded, NULL) || pthread_join(thread, NULL)) exit(3);
}

PLAIN static void marked(void) {
    // Marked one way and the other, and back: what an exec closes is 2 of 4.
    int one = had(open("/dev/full", O_RDONLY)), two = had(open("/dev/full", O_RDONLY | O_CLOEXEC));
    int three = had(open("/dev/full", O_RDONLY)), four = had(open("/dev/full", O_RDONLY | O_CLOEXEC));
    if (fcntl(one, F_SETFD, FD_CLOEXEC) || fcntl(two, F_SETFD, 0)) exit(3);
    if (ioctl(three, FIOCLEX) || ioctl(four, FIONCLEX)) exit(3);
    END;
}

int main(int argc, char **argv) {
    char line[64];
    if (argc > 1) {  // The image that it has become.
        puts("again");
        fflush(stdout);
        return fgets(line, sizeof line, stdin) == NULL;
    }
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        if (!strncmp(line, "exec", 4)) execl("/proc/self/exe", argv[0], "again", (char *)NULL);
        files();
        sockets();
        pipes();
        duplicates();
        events();
        others();
        ranges();
        in_thread();
        marked();
        puts("done");
        fflush(stdout);
    }
    return 0;
}
