// unserved FOLDER: maps code of a file whose file system a process serves (FUSE), and that answers nothing any more: whoever opens or reads the file waits. The
// folder becomes the file system, for this process and its children alone. Keeps 100 blocks of 1,000 bytes (kept) each time that a line arrives on standard input.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <signal.h>
#include <unistd.h>

#define PLAIN __attribute__((noinline, noclone))
#define SIZE (1 << 20)

static void answer(int server, unsigned long unique, const void *what, size_t bytes) {
    struct fuse_out_header header = {.len = sizeof header + bytes, .unique = unique};
    struct iovec parts[2] = {{&header, sizeof header}, {(void *)what, bytes}};
    if (writev(server, parts, 2) < 0) _exit(2);
}

static struct fuse_attr attributes(unsigned long inode) {
    struct fuse_attr attr = {.ino = inode, .size = SIZE, .mode = inode == 1 ? S_IFDIR | 0755 : S_IFREG | 0755, .nlink = 1, .blksize = 4096};
    return attr;
}

// Answers until the file is open; then nothing but that it is closed, without which its process could not end.
static void serve(int server) {
    static char request[1 << 20];
    int is_silent = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        ssize_t length = read(server, request, sizeof request);
        if (length < 0 && errno == EINTR) continue;
        if (length < 0) _exit(0);
        struct fuse_in_header *header = (struct fuse_in_header *)request;
        if (header->opcode == FUSE_FLUSH) {
            answer(server, header->unique, NULL, 0);
        } else if (is_silent) {
            continue;
        } else if (header->opcode == FUSE_INIT) {
            struct fuse_init_out init = {.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION, .max_write = 1 << 17};
            answer(server, header->unique, &init, sizeof init);
        } else if (header->opcode == FUSE_LOOKUP) {
            struct fuse_entry_out entry = {.nodeid = 2, .attr = attributes(2)};
            answer(server, header->unique, &entry, sizeof entry);
        } else if (header->opcode == FUSE_GETATTR) {
            struct fuse_attr_out attr = {.attr = attributes(header->nodeid)};
            answer(server, header->unique, &attr, sizeof attr);
        } else if (header->opcode == FUSE_OPEN) {
            struct fuse_open_out open = {.fh = 1};
            answer(server, header->unique, &open, sizeof open);
            is_silent = 1;
        }
    }
}

static void *volatile held[1 << 16];
static unsigned count;

PLAIN static void kept(void) {
    for (int i = 0; i < 100; i++) held[count++ & 0xffff] = malloc(1000);
}

int main(int argc, char **argv) {
    char line[64], options[128], path[4096];
    if (argc != 2 || unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) return 1;
    int server = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", server);
    if (server < 0 || mount("unserved", argv[1], "fuse", 0, options)) return 1;
    if (!fork()) serve(server);
    close(server);
    snprintf(path, sizeof path, "%s/code", argv[1]);
    int file = open(path, O_RDONLY);
    if (file < 0 || mmap(NULL, SIZE, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0) == MAP_FAILED) return 1;
    setvbuf(stdout, NULL, _IONBF, 0);
    setvbuf(stdin, NULL, _IONBF, 0);
    puts("ready");
    while (fgets(line, sizeof line, stdin)) {
        kept();
        puts("done");
    }
    return 0;
}
