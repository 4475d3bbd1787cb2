// images BLOCKS IMAGES: leaves BLOCKS blocks of 100 bytes, and becomes itself IMAGES times, three seconds later each.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PLAIN __attribute__((noinline, noclone))

static void *volatile last;

PLAIN static void leave(long blocks) {
    for (long at = 0; at < blocks; at++) {
        void **block = malloc(100);
        if (!block) abort();
        *block = last;
        last = block;
    }
}

int main(int count, char **words) {
    if (count < 3) return 2;
    long images = atol(words[2]);
    leave(atol(words[1]));
    struct timespec pause = {3, 0};
    nanosleep(&pause, NULL);
    if (images == 0) return 0;
    char rest[20];
    snprintf(rest, sizeof rest, "%ld", images - 1);
    execl("/proc/self/exe", words[0], words[1], rest, (char *)NULL);
    return 1;
}
