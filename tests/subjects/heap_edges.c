// heap_edges: the hard cases of an allocator's use, each when its name arrives on standard input; says when it is done. The allocator is the C library's.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PLAIN __attribute__((noinline, noclone))
#define THREADS 8
#define HELD 1000

static void *volatile held[THREADS][HELD];

PLAIN static void *hold(void *block) {
    if (!block) abort();
    return block;
}

// Blocks of one thread ...
PLAIN static void *handed_over(void *at) {
    for (int i = 0; i < HELD; i++) ((void *volatile *)at)[i] = hold(malloc(64));
    return NULL;
}

// ... that another gives back, all but one in ten.
PLAIN static void *given_back(void *at) {
    for (int i = 0; i < HELD; i++)
        if (i % 10) free(((void *volatile *)at)[i]);
    return NULL;
}

// Each thread ends with its blocks; all are at it at once.
static void in_threads(void *(*work)(void *)) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, work, (void *)held[i])) abort();
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
}

PLAIN static void *at_once(void *unused) {
    void *volatile last = NULL;
    (void)unused;
    for (int i = 0; i < 5000; i++) {
        void *volatile block = hold(malloc(100));
        if (i == 4999) last = block;
        else free(block);
    }
    return (void *)last;
}

// One block that grows 100 times, to 10,000 bytes: moved or not, one is in use.
PLAIN static void regrown(void) {
    void *volatile block = NULL;
    for (size_t size = 100; size <= 10000; size += 100) block = hold(realloc(block, size));
    held[0][0] = block;
}

// 50 that are given back by an order for nothing.
PLAIN static void zeroed_out(void) {
    for (int i = 0; i < 50; i++) {
        void *volatile block = hold(malloc(200));
        volatile size_t nothing = 0;
        if (realloc(block, nothing)) abort();
    }
}

// 50 that ask for too much, and stay.
PLAIN static void denied(void) {
    volatile size_t much = SIZE_MAX / 2;
    for (int i = 0; i < 50; i++) {
        void *volatile block = hold(malloc(300));
        if (realloc(block, much)) abort();
        held[0][i] = block;
    }
}

PLAIN static void of_the_parent(void) {
    for (int i = 0; i < 100; i++) held[0][i] = hold(malloc(1000));
}

PLAIN static void of_the_child(void) {
    for (int i = 0; i < 70; i++) held[1][i] = hold(malloc(500));
}

// The child gives back its copies of the parent's blocks, when it is told so; the parent keeps its own.
static void forked(void) {
    char line[64];
    pid_t child = fork();
    if (child == 0) {
        printf("child %d\n", getpid());
        if (!fgets(line, sizeof line, stdin)) _exit(1);
        for (int i = 0; i < 100; i++) free(held[0][i]);
        of_the_child();
        _exit(0);
    }
    int status = 0;
    if (waitpid(child, &status, 0) != child || status) abort();
}

// An allocator that comes while the recording runs, and goes again; `told` is asked between the two.
static void *loaded;
static void *(*their_malloc)(size_t);
static void (*their_free)(void *);

static void load(const char *name) {
    loaded = dlopen(name, RTLD_LAZY | RTLD_LOCAL);
    if (!loaded) abort();
    their_malloc = (void *(*)(size_t))dlsym(loaded, "malloc");
    their_free = (void (*)(void *))dlsym(loaded, "free");
    if (!their_malloc || !their_free) abort();
}

PLAIN static void foreign(void) {
    for (int i = 0; i < 40; i++) {
        void *volatile block = hold(their_malloc(256));
        if (i % 4) their_free(block);
    }
}

// 16 places from which blocks come: as many stacks.
#define PLACE(n) PLAIN static void place_##n(void) { for (int i = 0; i < 10; i++) held[2][n * 10 + i] = hold(malloc(32)); }
PLACE(0) PLACE(1) PLACE(2) PLACE(3) PLACE(4) PLACE(5) PLACE(6) PLACE(7)
PLACE(8) PLACE(9) PLACE(10) PLACE(11) PLACE(12) PLACE(13) PLACE(14) PLACE(15)
static void places(void) {
    place_0(); place_1(); place_2(); place_3(); place_4(); place_5(); place_6(); place_7();
    place_8(); place_9(); place_10(); place_11(); place_12(); place_13(); place_14(); place_15();
}

int main(void) {
    char line[4096];
    setvbuf(stdout, NULL, _IONBF, 0);
    setvbuf(stdin, NULL, _IONBF, 0);
    puts("ready");
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        const char *rest = strchr(line, ' ') ? strchr(line, ' ') + 1 : "";
        if (!strcmp(line, "hand over")) in_threads(handed_over), in_threads(given_back);
        else if (!strcmp(line, "at once")) in_threads(at_once);
        else if (!strcmp(line, "realloc")) regrown(), zeroed_out(), denied();
        else if (!strcmp(line, "parent")) of_the_parent();
        else if (!strcmp(line, "fork")) forked();
        else if (!strncmp(line, "exec ", 5)) execl(rest, rest, (char *)NULL);
        else if (!strncmp(line, "load ", 5)) load(rest);
        else if (!strcmp(line, "foreign")) foreign();
        else if (!strcmp(line, "unload")) dlclose(loaded);
        else if (!strcmp(line, "hold")) handed_over((void *)held[0]);
        else if (!strcmp(line, "places")) places();
        else if (!strcmp(line, "quit")) return 0;
        else abort();
        puts("done");
    }
    return 0;
}
