// The library of reloading.c. -shared -fPIC, and -DVERSION=one or -DVERSION=two -DOTHER_ORDER: then the same functions
// stand at other offsets.
#include <stdint.h>
#include <time.h>

#define FRAME __attribute__((noinline, noipa))
#define KEEP(value) __asm__ volatile("" : "+r"(value))
#define PASTE(version, name) version##_##name
#define NAME_OF(version, name) PASTE(version, name)
#define NAME(name) NAME_OF(VERSION, name)

// See chain.h.
enum { PART_STEPS = 200000, JITTER_STEPS = 1 << 14 };

FRAME unsigned long NAME(spin)(unsigned long x, unsigned long parts);
FRAME unsigned long NAME(work_a)(unsigned long x, uint64_t *spent_ns);
FRAME unsigned long NAME(work_b)(unsigned long x, uint64_t *spent_ns);
FRAME unsigned long NAME(work_c)(unsigned long x, uint64_t *spent_ns);

static inline uint64_t thread_cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#define SPIN                                                              \
    FRAME unsigned long NAME(spin)(unsigned long x, unsigned long parts)  \
    {                                                                     \
        unsigned long steps = PART_STEPS - (x >> 40) % JITTER_STEPS;      \
        for (unsigned long step = 0; step < parts * steps; step++) {      \
            x = x * 31 + 7;                                               \
            KEEP(x);                                                      \
        }                                                                 \
        return x;                                                         \
    }

#define WORK(name, index, parts)                                      \
    FRAME unsigned long NAME(name)(unsigned long x, uint64_t *spent_ns) \
    {                                                                 \
        uint64_t begin_ns = thread_cpu_ns();                          \
        x = NAME(spin)(x, parts);                                     \
        spent_ns[index] += thread_cpu_ns() - begin_ns;                \
        return x;                                                     \
    }

#ifdef OTHER_ORDER
// Frames of another size, too.
FRAME unsigned long NAME(run)(unsigned long x, uint64_t *spent_ns)
{
    volatile unsigned long room[40];
    room[x % 40] = x;
    x = NAME(work_a)(x, spent_ns);
    x = NAME(work_b)(x, spent_ns);
    x = NAME(work_c)(x, spent_ns);
    return x + room[x % 40] % 2;
}
WORK(work_c, 2, 1)
WORK(work_b, 1, 3)
SPIN
WORK(work_a, 0, 6)
#else
WORK(work_a, 0, 6)
SPIN
WORK(work_b, 1, 3)
WORK(work_c, 2, 1)
FRAME unsigned long NAME(run)(unsigned long x, uint64_t *spent_ns)
{
    x = NAME(work_a)(x, spent_ns);
    x = NAME(work_b)(x, spent_ns);
    x = NAME(work_c)(x, spent_ns);
    KEEP(x);
    return x;
}
#endif
