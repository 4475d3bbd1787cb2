// blocks, in C++: at each line of standard input 1,000 new char[100] that stay (kept), 500 objects of 64 bytes with an alignment of 64 that stay (aligned),
// a vector that grows to 1,000 longs and goes (dropped), 200 strings of 200 letters that stay (strings).
#include <cstdio>
#include <new>
#include <string>
#include <vector>

#define PLAIN __attribute__((noinline, noclone))

struct alignas(64) Line {
    char bytes[64];
};
static void *volatile sink;
static std::string *volatile names[200];

PLAIN static void kept() {
    for (int i = 0; i < 1000; i++) sink = new char[100];
}

PLAIN static void aligned() {
    for (int i = 0; i < 500; i++) sink = new Line;
}

PLAIN static void dropped() {
    std::vector<long> numbers;
    for (long i = 0; i < 1000; i++) numbers.push_back(i);
    sink = numbers.data();
}

PLAIN static void strings() {
    for (int i = 0; i < 200; i++) names[i] = new std::string(200, 'x');
}

int main() {
    char line[64];
    setvbuf(stdout, nullptr, _IONBF, 0);
    setvbuf(stdin, nullptr, _IONBF, 0);
    puts("ready");
    while (fgets(line, sizeof line, stdin)) {
        kept();
        aligned();
        dropped();
        strings();
        puts("done");
    }
}
