// brief: a program of some milliseconds that allocates a known pattern, in a constructor, and in main, and ends. Nothing of it is printed: that would allocate.
#include <stdlib.h>

#define PLAIN __attribute__((noinline, noclone))

static void *volatile held[4096];
static int count;

PLAIN static void hold(void *block) {
    if (!block) abort();
    held[count++ & 4095] = block;
}

// Before main: 7 of 48 bytes.
__attribute__((constructor)) PLAIN static void constructed(void) {
    for (int i = 0; i < 7; i++) hold(malloc(48));
}

// The first of main, and 500 more that stay.
PLAIN static void kept(void) {
    for (int i = 0; i < 501; i++) hold(malloc(100));
}

PLAIN static void dropped(void) {
    for (int i = 0; i < 300; i++) {
        void *volatile block = malloc(1000);
        free(block);
    }
}

int main(void) {
    kept();
    dropped();
    return 0;
}
