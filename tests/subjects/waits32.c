// waits32: a 32-bit program that waits twenty times for 50 ms at a word that nobody wakes it at, and ends. It needs no library, and is built with -m32 -nostdlib.
#define FUTEX 240
#define EXIT_GROUP 252
#define FUTEX_WAIT_PRIVATE 128

struct time {
    int seconds, ns;
};

static int word;

static int call(int number, long first, long second, long third, long fourth) {
    int answer;
    __asm__ volatile("int $0x80" : "=a"(answer) : "a"(number), "b"(first), "c"(second), "d"(third), "S"(fourth) : "memory");
    return answer;
}

void _start(void) {
    struct time time = {0, 50000000};
    for (int i = 0; i < 20; i++) call(FUTEX, (long)&word, FUTEX_WAIT_PRIVATE, 0, (long)&time);
    call(EXIT_GROUP, 0, 0, 0, 0);
}
