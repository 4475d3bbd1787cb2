// crowd: many processes of one program. Each of its children takes three blocks of 1,000 bytes when it is told, and stays; the first word says how many children there are.
// A line on standard input tells them, and is answered when all have done it.
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <signal.h>
#include <unistd.h>

#define BLOCKS 3

static void *volatile kept[BLOCKS];

__attribute__((noinline, noclone)) static void takes(int i) { kept[i] = malloc(1000); }

static void child(int told, int done) {
    char byte;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // Nobody writes: it ends when the parent closes it.
    if (read(told, &byte, 1)) _exit(1);
    for (int i = 0; i < BLOCKS; i++) takes(i);
    if (write(done, "d", 1) != 1) _exit(1);
    for (;;) pause();
}

int main(int argc, char **argv) {
    int children = argc > 1 ? atoi(argv[1]) : 0, told[2], done[2];
    char line[16], byte;
    if (pipe(told) || pipe(done)) return 1;
    for (int i = 0; i < children; i++) {
        int pid = fork();
        if (pid < 0) return 1;
        if (!pid) {
            close(told[1]);
            child(told[0], done[1]);
        }
    }
    puts("ready");
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin)) return 1;
    close(told[1]);
    for (int i = 0; i < children; i++)
        if (read(done[0], &byte, 1) != 1) return 1;
    puts("done");
    fflush(stdout);
    for (;;) pause();
}
