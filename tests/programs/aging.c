// The library of fresh.c. -shared -fPIC
#include <stdint.h>
#include <time.h>

#define FRAME __attribute__((noinline, noipa))
#define KEEP(value) __asm__ volatile("" : "+r"(value))

FRAME static uint64_t now_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

FRAME unsigned long turn(unsigned long x)
{
    for (int step = 0; step < 20000; step++) {
        x = x * 31 + 7;
        KEEP(x);
    }
    return x;
}

#define SPIN(name)                                                              \
    FRAME unsigned long name(unsigned long x, clockid_t clock, uint64_t end_ns) \
    {                                                                           \
        while (now_ns(clock) < end_ns)                                          \
            x = turn(x);                                                        \
        return x;                                                               \
    }

SPIN(young)
SPIN(old)
