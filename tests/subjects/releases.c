// releases: who lets others go where that is not plain. When a line arrives it does what its first word says, prints `waited NS`, what it has waited by its own clock,
// and ends with the next line.
// `condition`: a thread has a lock for 20 ms, and lets it go by beginning to wait at a condition variable, for nothing. `shared`: of six processes three have a lock that
// all want, for 2, 6 and 12 ms. `space`: a process that lives in its address space has a lock that is private to that, for 10 ms, again and again. `gives_up`: a
// thread has a lock until three others have waited 100 ms for it in vain, then another one for 20 ms while one waits; it prints `gave_up NS` behind that, too. `words N`: it waits at N words in turn, and then two threads contend.
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PLAIN __attribute__((noinline, noclone))
#define ROUNDS 40

struct shared {
    pthread_mutex_t lock;
    uint64_t waited;
    int over;
};

static struct shared *shared;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
static uint64_t waited;
static int over;

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void nap_us(long us) {
    struct timespec time = {us / 1000000, us % 1000000 * 1000};
    nanosleep(&time, NULL);
}

// Waits for a lock, and counts how long.
PLAIN static void acquire(pthread_mutex_t *it, uint64_t *sum) {
    uint64_t before = now();
    pthread_mutex_lock(it);
    __atomic_fetch_add(sum, now() - before, __ATOMIC_RELAXED);
}

PLAIN static void begins_to_wait(void) {
    struct timespec soon;
    pthread_mutex_lock(&lock);
    nap_us(20000);
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_nsec += 1000000;
    if (soon.tv_nsec >= 1000000000) soon.tv_nsec -= 1000000000, soon.tv_sec++;
    pthread_cond_timedwait(&never, &lock, &soon);
    pthread_mutex_unlock(&lock);
}

static void *wants(void *unused) {
    while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
        acquire(&lock, &waited);
        pthread_mutex_unlock(&lock);
        nap_us(500);
    }
    return unused;
}

static void condition(void) {
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, wants, NULL);
    for (int i = 0; i < 2 * ROUNDS; i++) begins_to_wait();
    __atomic_store_n(&over, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
}

static void has(long us) {
    acquire(&shared->lock, &shared->waited);
    if (us) nap_us(us);
    pthread_mutex_unlock(&shared->lock);
}

PLAIN static void holds_one(void) { has(2000); }
PLAIN static void holds_three(void) { has(6000); }
PLAIN static void holds_six(void) { has(12000); }
PLAIN static void only_wants(void) { has(0); }

static void processes(void) {
    void (*does[])(void) = {holds_one, holds_three, holds_six, only_wants, only_wants, only_wants};
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) abort();
    pthread_mutex_init(&shared->lock, &kind);
    for (int i = 0; i < 6; i++) {
        if (!fork()) {
            while (!__atomic_load_n(&shared->over, __ATOMIC_RELAXED)) {
                does[i]();
                nap_us(200);
            }
            _exit(0);
        }
    }
    nap_us(3000000);
    __atomic_store_n(&shared->over, 1, __ATOMIC_RELAXED);
    while (wait(NULL) > 0) {}
    waited = shared->waited;
}

static uint32_t word;

// A lock of our own: C libraries count on a thread of theirs.
static void take(void) {
    uint32_t state = 0;
    if (__atomic_compare_exchange_n(&word, &state, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) return;
    while (__atomic_exchange_n(&word, 2, __ATOMIC_ACQUIRE)) syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
}

PLAIN static void gives(void) {
    if (__atomic_exchange_n(&word, 0, __ATOMIC_RELEASE) == 2) syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    __asm__ volatile("");
}

static int holds_in_same_space(void *unused) {
    while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
        take();
        nap_us(10000);
        gives();
        nap_us(1000);
    }
    return unused != NULL;
}

PLAIN static void space(void) {
    static _Alignas(16) char stack[1 << 16];
    if (clone(holds_in_same_space, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL) < 0) abort();
    for (int i = 0; i < ROUNDS; i++) {
        while (!__atomic_load_n(&word, __ATOMIC_RELAXED)) nap_us(100);
        uint64_t before = now();
        take();
        waited += now() - before;
        gives();
    }
    __atomic_store_n(&over, 1, __ATOMIC_RELAXED);
    wait(NULL);
}

static uint64_t gave_up;

static void *gives_up(void *unused) {
    struct timespec soon;
    uint64_t before = now();
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_nsec += 100000000;
    if (soon.tv_nsec >= 1000000000) soon.tv_nsec -= 1000000000, soon.tv_sec++;
    if (!pthread_mutex_timedlock(&lock, &soon)) abort();
    __atomic_fetch_add(&gave_up, now() - before, __ATOMIC_RELAXED);
    return unused;
}

static void *waits_once(void *unused) {
    acquire(&lock, &waited);
    pthread_mutex_unlock(&lock);
    return unused;
}

PLAIN static void held_in_vain(void) {
    pthread_t threads[3];
    pthread_mutex_lock(&lock);
    for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, gives_up, NULL);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    pthread_mutex_unlock(&lock);
    __asm__ volatile("");
}

PLAIN static void held_for_one(void) {
    pthread_t thread;
    pthread_mutex_lock(&lock);
    pthread_create(&thread, NULL, waits_once, NULL);
    nap_us(20000);
    pthread_mutex_unlock(&lock);
    pthread_join(thread, NULL);
}

static void in_vain(void) {
    for (int i = 0; i < 10; i++) {
        held_in_vain();
        held_for_one();
    }
}

PLAIN static void contends(void) {
    acquire(&lock, &waited);
    nap_us(10000);
    pthread_mutex_unlock(&lock);
}

static void *contender(void *unused) {
    for (int i = 0; i < ROUNDS; i++) {
        contends();
        nap_us(200);
    }
    return unused;
}

static void words(long count) {
    struct timespec soon = {0, 1000};
    uint64_t *at = calloc(count, sizeof *at);
    pthread_t threads[2];
    for (long i = 0; i < count; i++) syscall(SYS_futex, at + i, FUTEX_WAIT_PRIVATE, 0, &soon, NULL, 0);
    for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, contender, NULL);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
}

int main(int argc, char **argv) {
    char line[16];
    if (argc < 2) return 2;
    puts("ready");
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin)) return 1;
    if (!strcmp(argv[1], "condition")) condition();
    else if (!strcmp(argv[1], "shared")) processes();
    else if (!strcmp(argv[1], "space")) space();
    else if (!strcmp(argv[1], "gives_up")) in_vain();
    else if (!strcmp(argv[1], "words") && argc > 2) words(atol(argv[2]));
    else return 2;
    printf("waited %llu", (unsigned long long)waited);
    if (gave_up) printf(" gave_up %llu", (unsigned long long)gave_up);
    puts("");
    fflush(stdout);
    return !fgets(line, sizeof line, stdin);
}
