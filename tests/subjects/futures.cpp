// futures: a thread waits for another's result, fifty times for 20 ms; it counts how long. Begins when a line arrives, prints `waited NS`, ends with the next line.
#include <chrono>
#include <future>
#include <iostream>
#include <string>
#include <thread>

using Clock = std::chrono::steady_clock;

__attribute__((noinline)) static void fulfils(std::promise<int> &promise) { promise.set_value(1); }

__attribute__((noinline)) static int gets(std::future<int> &future) { return future.get(); }

int main() {
    std::string line;
    std::cout << "ready" << std::endl;
    std::getline(std::cin, line);
    Clock::duration waited{};
    for (int i = 0; i < 50; i++) {
        std::promise<int> promise;
        auto future = promise.get_future();
        std::thread thread([&] {
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
            fulfils(promise);
        });
        auto before = Clock::now();
        if (gets(future) != 1) return 1;
        waited += Clock::now() - before;
        thread.join();
    }
    std::cout << "waited " << std::chrono::nanoseconds(waited).count() << std::endl;
    std::getline(std::cin, line);
}
