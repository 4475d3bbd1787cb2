// lives: blocks of known numbers that live for known times, each when its name arrives on standard input; says when it is done.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PLAIN __attribute__((noinline, noclone))
#define MANY 30000

static void *volatile kept[MANY];
static void *volatile small[MANY];
static void *volatile mixed[MANY];

static void *hold(void *block) {
    if (!block) abort();
    return block;
}

static void pause_ms(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

// 20,000 of 1,000 bytes that stay, as the first 10,000 of 3,000 do that come between them; 20,000 more of those go at once.
PLAIN static void large(int i) { kept[i] = hold(malloc(3000)); }
PLAIN static void medium(int i) { small[i] = hold(malloc(1000)); }
PLAIN static void passing(int i) { mixed[i] = hold(malloc(2000)); }

static void many(void) {
    for (int i = 0; i < 20000; i++) {
        medium(i);
        if (i % 2) large(i / 2);
        passing(i);
        if (i >= 50) free(mixed[i - 50]);
    }
    for (int i = 20000 - 50; i < 20000; i++) free(mixed[i]);
}

// The 10,000 of 3,000 bytes get larger ones in their place.
PLAIN static void grown(void) {
    for (int i = 0; i < 10000; i++) kept[i] = hold(realloc(kept[i], 3500));
}

// All of it is given back.
static void none(void) {
    for (int i = 0; i < 20000; i++) free(small[i]);
    for (int i = 0; i < 10000; i++) free(kept[i]);
}

// 300 that stay: their age is known by the one who asks for them.
PLAIN static void first(void) {
    for (int i = 0; i < 300; i++) kept[i] = hold(malloc(100));
}

PLAIN static void second(void) {
    for (int i = 300; i < 500; i++) kept[i] = hold(malloc(100));
}

// 400 go at once, 100 after 300 ms, 50 stay.
PLAIN static void some(void) {
    for (int i = 0; i < 400; i++) {
        void *volatile block = hold(malloc(200));
        free(block);
    }
    for (int i = 0; i < 150; i++) mixed[i] = hold(malloc(200));
    pause_ms(300);
    for (int i = 0; i < 100; i++) free(mixed[i]);
}

// 10,000,000 of 16 bytes that stay.
PLAIN static void *tiny(void) { return hold(malloc(16)); }

static void millions(void) {
    for (int i = 0; i < 10000000; i++) kept[i % MANY] = tiny();
}

int main(void) {
    char line[64];
    setvbuf(stdout, NULL, _IONBF, 0);
    setvbuf(stdin, NULL, _IONBF, 0);
    puts("ready");
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (!strcmp(line, "many")) many();
        else if (!strcmp(line, "none")) none();
        else if (!strcmp(line, "grown")) grown();
        else if (!strcmp(line, "first")) first();
        else if (!strcmp(line, "second")) second();
        else if (!strcmp(line, "some")) some();
        else if (!strcmp(line, "millions")) millions();
        else if (!strcmp(line, "quit")) return 0;
        else abort();
        puts("done");
    }
    return 0;
}
