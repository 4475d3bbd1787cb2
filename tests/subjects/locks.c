// Locks of the C library with a contention that is known: three threads hold one for 2, 6 and 12 ms, three more only want it. What they wait is printed in ns,
// as each of them measured it around its own call, and how long each holder had it. The first word says which lock, or what else is waited for.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t mutex;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static sem_t semaphore;
static atomic_ullong waited, wanted, held[3];
static atomic_int over, given, awaiting;
static _Atomic uint32_t word;

static unsigned long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static void nap(long ns) {
    struct timespec time = {0, ns};
    nanosleep(&time, 0);
}

// Until a thread of this process sleeps: on a busy machine it comes later to its wait than any nap.
static void until_asleep(pid_t thread) {
    char path[64], stat[256], state = 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)thread);
    while (state != 'S') {
        nap(1000000);
        FILE *file = fopen(path, "r");
        char *end = file && fgets(stat, sizeof stat, file) ? strrchr(stat, ')') : 0;
        if (!end) exit(1);
        state = end[2];
        fclose(file);
    }
}

static void lock_mutex(void) { pthread_mutex_lock(&mutex); }
static void unlock_mutex(void) { pthread_mutex_unlock(&mutex); }
static void write_lock(void) { pthread_rwlock_wrlock(&rwlock); }
static void read_lock(void) { pthread_rwlock_rdlock(&rwlock); }
static void unlock_rwlock(void) { pthread_rwlock_unlock(&rwlock); }
static void take_semaphore(void) { sem_wait(&semaphore); }
static void give_semaphore(void) { sem_post(&semaphore); }

static void (*hold)(void) = lock_mutex, (*want)(void) = lock_mutex, (*let_go)(void) = unlock_mutex;

// A call that took less than a tenth of a millisecond has not slept.
static unsigned long long measured(unsigned long long from) {
    unsigned long long took = now() - from;
    if (took <= 100000) return 0;
    waited += took;
    return took;
}

__attribute__((noinline)) unsigned long long acquire(void (*lock)(void)) {
    unsigned long long from = now();
    lock();
    return measured(from);
}

#define HOLDER(name, ms, at)                                                                                                                                   \
    __attribute__((noinline)) void name(void) {                                                                                                                \
        acquire(hold);                                                                                                                                         \
        unsigned long long from = now();                                                                                                                       \
        nap(ms * 1000000l);                                                                                                                                    \
        held[at] += now() - from;                                                                                                                              \
        let_go();                                                                                                                                              \
        __asm__ volatile("");                                                                                                                                  \
    }
HOLDER(holds_one, 2, 0)
HOLDER(holds_three, 6, 1)
HOLDER(holds_six, 12, 2)

__attribute__((noinline)) void only_wants(void) {
    wanted += acquire(want);
    let_go();
    __asm__ volatile("");
}

static void *turns(void *turn) {
    while (!over) {
        ((void (*)(void))turn)();
        nap(200000);
    }
    return 0;
}

static void contend(void) {
    void (*work[6])(void) = {holds_one, holds_three, holds_six, only_wants, only_wants, only_wants};
    pthread_t threads[6];
    for (int at = 0; at < 6; at++) pthread_create(&threads[at], 0, turns, (void *)work[at]);
    sleep(3);
    over = 1;
    for (int at = 0; at < 6; at++) pthread_join(threads[at], 0);
}

__attribute__((noinline)) void awaits(void) {
    unsigned long long from = now();
    pthread_mutex_lock(&mutex);
    awaiting = 1;
    while (!given) pthread_cond_wait(&condition, &mutex);
    given = awaiting = 0;
    pthread_mutex_unlock(&mutex);
    measured(from);
}

__attribute__((noinline)) void notifies(void) {
    pthread_mutex_lock(&mutex);
    given = 1;
    pthread_mutex_unlock(&mutex);
    pthread_cond_signal(&condition);
    __asm__ volatile("");
}

static void *notifies_often(void *unused) {
    for (int at = 0; at < 100; at++) {
        // With its flag set it sleeps nowhere but there.
        while (!awaiting) nap(1000000);
        until_asleep(getpid());
        nap(10000000);
        notifies();
        while (given) nap(1000000);
    }
    return unused;
}

static void condition_variable(void) {
    pthread_t thread;
    pthread_create(&thread, 0, notifies_often, 0);
    for (int at = 0; at < 100; at++) awaits();
    pthread_join(thread, 0);
}

static void *naps(void *unused) {
    until_asleep(getpid());
    nap(20000000);
    return unused;
}

__attribute__((noinline)) void joins(pthread_t thread) {
    unsigned long long from = now();
    pthread_join(thread, 0);
    measured(from);
}

static void join(void) {
    for (int at = 0; at < 50; at++) {
        pthread_t thread;
        pthread_create(&thread, 0, naps, 0);
        joins(thread);
    }
}

static long futex(void *at, int operation, uint32_t value, struct timespec *timeout) { return syscall(SYS_futex, at, operation, value, timeout, 0, 0); }

static void *wakes_word(void *at) {
    nap(20000000);
    while (futex(at, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, 0) == 0) nap(1000000);
    return 0;
}

__attribute__((noinline)) void waits_for_several(void) {
    struct {
        uint64_t value, address;
        uint32_t flags, reserved;
    } words[1] = {{0, (uintptr_t)&word, 2 | FUTEX_PRIVATE_FLAG, 0}};
    unsigned long long from = now();
    syscall(449, words, 1, 0, 0, CLOCK_MONOTONIC);
    measured(from);
}

static void several(void) {
    for (int at = 0; at < 50; at++) {
        pthread_t thread;
        pthread_create(&thread, 0, wakes_word, (void *)&word);
        waits_for_several();
        pthread_join(thread, 0);
    }
}

static _Atomic uint32_t moved_to = 2;

static void *moves_and_wakes(void *unused) {
    nap(10000000);
    while (syscall(SYS_futex, &word, FUTEX_REQUEUE | FUTEX_PRIVATE_FLAG, 0, 1, &moved_to, 0) == 0) nap(1000000);
    nap(10000000);
    while (futex((void *)&moved_to, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, 0) == 0) nap(1000000);
    return unused;
}

// As musl's condition variables have it: who waits is moved to the mutex, and woken there.
__attribute__((noinline)) void is_moved(void) {
    unsigned long long from = now();
    futex((void *)&word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 2, 0);
    measured(from);
}

static void moved(void) {
    word = 2;
    for (int at = 0; at < 50; at++) {
        pthread_t thread;
        pthread_create(&thread, 0, moves_and_wakes, 0);
        is_moved();
        pthread_join(thread, 0);
    }
}

// One wait with a timeout, which the test stops and continues.
__attribute__((noinline)) void is_stopped(void) {
    struct timespec timeout = {3, 0};
    unsigned long long from = now();
    futex((void *)&word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, &timeout);
    measured(from);
}

// A word of one page at two addresses: the child's threads see it at another one than the parent's.
struct both {
    pthread_mutex_t lock;
    atomic_ullong waited;
    atomic_int over;
};
static struct both *both;

__attribute__((noinline)) void holds_shared(void) {
    pthread_mutex_lock(&both->lock);
    nap(10000000);
    pthread_mutex_unlock(&both->lock);
    __asm__ volatile("");
}

__attribute__((noinline)) void wants_shared(void) {
    unsigned long long from = now();
    pthread_mutex_lock(&both->lock);
    unsigned long long took = now() - from;
    if (took > 100000) both->waited += took;
    pthread_mutex_unlock(&both->lock);
    __asm__ volatile("");
}

static void share(void) {
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
    int memory = memfd_create("both", 0);
    if (ftruncate(memory, 4096)) exit(1);
    both = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    pthread_mutex_init(&both->lock, &kind);
    struct both *other = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    pid_t child = fork();
    if (child == 0) {
        struct both *mine = both;
        both = other;
        munmap(mine, 4096);
        while (!both->over) {
            holds_shared();
            nap(200000);
        }
        _exit(0);
    }
    unsigned long long end = now() + 2000000000ull;
    while (now() < end) {
        wants_shared();
        nap(200000);
    }
    both->over = 1;
    waitpid(child, 0, 0);
    waited = both->waited;
}

static pthread_mutex_t robust_one;

__attribute__((noinline)) static void *dies_with_it(void *unused) {
    if (pthread_mutex_lock(&robust_one) == EOWNERDEAD) pthread_mutex_consistent(&robust_one);
    given = 1;
    nap(20000000);
    return unused;
}

__attribute__((noinline)) void inherits(void) {
    unsigned long long from = now();
    if (pthread_mutex_lock(&robust_one) == EOWNERDEAD) pthread_mutex_consistent(&robust_one);
    measured(from);
    pthread_mutex_unlock(&robust_one);
}

static void robust(void) {
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&robust_one, &kind);
    for (int at = 0; at < 50; at++) {
        pthread_t thread;
        given = 0;
        pthread_create(&thread, 0, dies_with_it, 0);
        while (!given) nap(1000000);
        inherits();
        pthread_join(thread, 0);
    }
}

// Threads that wait for a lock while their process ends by exit(3), with nobody letting it go.
static atomic_ullong begun_at;
static atomic_int begun;

__attribute__((noinline)) void ends_all(void) {
    printf("waited %llu\n", 3 * now() - begun_at);
    exit(0);
}

static void *waits_for_ever(void *unused) {
    begun_at += now();
    begun++;
    acquire(lock_mutex);
    return unused;
}

static void end_while_waiting(void) {
    pthread_t threads[3];
    pthread_mutex_lock(&mutex);
    for (int at = 0; at < 3; at++) pthread_create(&threads[at], 0, waits_for_ever, 0);
    while (begun < 3) nap(1000000);
    sleep(1);
    ends_all();
}

int main(int count, char **words) {
    char line[64];
    const char *what = count > 1 ? words[1] : "mutex";
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind);
    if (!strcmp(what, "pi")) pthread_mutexattr_setprotocol(&kind, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&mutex, &kind);
    sem_init(&semaphore, 0, 1);
    puts("ready");
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin)) return 1;
    if (!strcmp(what, "rwlock")) hold = write_lock, want = read_lock, let_go = unlock_rwlock;
    if (!strcmp(what, "semaphore")) hold = take_semaphore, want = take_semaphore, let_go = give_semaphore;
    if (!strcmp(what, "condition")) condition_variable();
    else if (!strcmp(what, "join")) join();
    else if (!strcmp(what, "several")) several();
    else if (!strcmp(what, "moved")) moved();
    else if (!strcmp(what, "stopped")) is_stopped();
    else if (!strcmp(what, "shared")) share();
    else if (!strcmp(what, "robust")) robust();
    else if (!strcmp(what, "end")) end_while_waiting();
    else contend();
    printf("waited %llu wanted %llu held %llu %llu %llu\n", waited, wanted, held[0], held[1], held[2]);
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin)) return 1;
    return 0;
}
