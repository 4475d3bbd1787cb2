// stepping_clock is preloaded: the wall clock that its program asks begins in September 2001 and steps at each look: by STEP seconds, forwards or backwards. Other
// clocks are as they are.
#define _GNU_SOURCE
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    static _Atomic long looks;
    if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE) return syscall(SYS_clock_gettime, clock, time);
    const char *step = getenv("STEP");
    time->tv_sec = 1000000000 + looks++ * (step ? atol(step) : 0);
    time->tv_nsec = 0;
    return 0;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    (void)zone;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = 0;
    return 0;
}
