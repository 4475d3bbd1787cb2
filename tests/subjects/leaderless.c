// leaderless [exec]: its first thread ends, and another one goes on: it leaves 500 blocks of 100 bytes, then becomes `true` if that is asked for.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define PLAIN __attribute__((noinline, noclone))

static void *volatile last;

PLAIN static void leave(void) {
    for (int at = 0; at < 500; at++) {
        void **block = malloc(100);
        if (!block) abort();
        *block = last;
        last = block;
    }
}

// Long enough for it to be probed while its first thread is there, and then for the end of that to be heard of.
static void pauses(void) {
    struct timespec pause = {1, 500000000};
    nanosleep(&pause, NULL);
}

static void *go_on(void *becomes_another) {
    pauses();
    pauses();
    leave();
    if (becomes_another) execlp("true", "true", (char *)NULL);
    return NULL;
}

int main(int count, char **words) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, go_on, count > 1 ? words[1] : NULL)) abort();
    pauses();
    pthread_exit(NULL);
}
