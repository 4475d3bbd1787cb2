// sizes: blocks of every size from 600 to 2,099 bytes, equally many of each. At each line of standard input 40,500 that stay (kept) and 100,500 that go
// (dropped); then says that it is done.
#include <stdio.h>
#include <stdlib.h>

#define PLAIN __attribute__((noinline, noclone))

static void *volatile sink;

static size_t size(int i) {
    return 600 + i * 7 % 1500;
}

PLAIN static void kept(void) {
    for (int i = 0; i < 40500; i++) sink = malloc(size(i));
}

PLAIN static void dropped(void) {
    for (int i = 0; i < 100500; i++) {
        void *volatile block = malloc(size(i));
        free(block);
    }
}

int main(void) {
    char line[64];
    setvbuf(stdout, NULL, _IONBF, 0);
    setvbuf(stdin, NULL, _IONBF, 0);
    puts("ready");
    while (fgets(line, sizeof line, stdin)) {
        kept();
        dropped();
        puts("done");
    }
    return 0;
}
