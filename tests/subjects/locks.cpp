// Locks of the C++ library with a contention that is known, as in `locks.c`: the word is `mutex` or `shared`.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <shared_mutex>
#include <thread>
#include <vector>

using namespace std::chrono;

static std::mutex one;
static std::shared_mutex many;
static bool is_shared;
static std::atomic<long long> waited, held[3];
static std::atomic<bool> over;

template <typename Lock> __attribute__((noinline)) void acquire(Lock lock) {
    auto from = steady_clock::now();
    lock();
    auto took = steady_clock::now() - from;
    if (took > microseconds(100)) waited += duration_cast<nanoseconds>(took).count();
}

static void hold() { is_shared ? many.lock() : one.lock(); }
static void want() { is_shared ? many.lock_shared() : one.lock(); }

#define HOLDER(name, ms, at)                                                                                                                                   \
    extern "C" __attribute__((noinline)) void name() {                                                                                                         \
        acquire(hold);                                                                                                                                         \
        auto from = steady_clock::now();                                                                                                                       \
        std::this_thread::sleep_for(milliseconds(ms));                                                                                                         \
        held[at] += duration_cast<nanoseconds>(steady_clock::now() - from).count();                                                                            \
        is_shared ? many.unlock() : one.unlock();                                                                                                              \
        __asm__ volatile("");                                                                                                                                  \
    }
HOLDER(holds_one, 2, 0)
HOLDER(holds_three, 6, 1)
HOLDER(holds_six, 12, 2)

extern "C" __attribute__((noinline)) void only_wants() {
    acquire(want);
    is_shared ? many.unlock_shared() : one.unlock();
    __asm__ volatile("");
}

int main(int count, char **words) {
    char line[64];
    is_shared = count > 1 && !strcmp(words[1], "shared");
    puts("ready");
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin)) return 1;
    std::vector<std::thread> threads;
    for (auto turn : {holds_one, holds_three, holds_six, only_wants, only_wants, only_wants})
        threads.emplace_back([turn] {
            while (!over) {
                turn();
                std::this_thread::sleep_for(microseconds(200));
            }
        });
    std::this_thread::sleep_for(seconds(3));
    over = true;
    for (auto &thread : threads) thread.join();
    printf("waited %lld held %lld %lld %lld\n", waited.load(), held[0].load(), held[1].load(), held[2].load());
    fflush(stdout);
    return fgets(line, sizeof line, stdin) ? 0 : 1;
}
