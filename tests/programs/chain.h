// The known chain of calls main -> dispatch -> work_a, work_b, work_c -> spin, with 60, 30 and 10 percent of the time.
//
//     program [MILLISECONDS]      (of CPU time in the three work functions together; 7000 when not given)
//
// Each program includes this and adds what makes it hard to unwind. At its end it prints what the thread's CPU clock
// measured in each of the three: cpu_ns work_a=... work_b=... work_c=...
#ifndef CHAIN_H
#define CHAIN_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

// A frame that is there whatever the optimizer thinks of it.
#define FRAME __attribute__((noinline, noipa))
// Something is left to do after a call with this result, so that the call is no jump.
#define KEEP(value) __asm__ volatile("" : "+r"(value))

// One part in ten of a round, about 250 microseconds: long against the two readings of the clock around it. Up to
// JITTER_STEPS fewer, as it happens, so that rounds and samples never keep step.
enum { PART_STEPS = 200000, JITTER_STEPS = 1 << 14 };
static const uint64_t default_ms = 7000;

// Programs of the same source are no copies of each other.
#ifdef PROGRAM
__attribute__((used)) static const char program[] = PROGRAM;
#endif

static uint64_t own_spent_ns[3];
// Where the measured times are added up; shared memory when processes share them.
static uint64_t *spent_ns = own_spent_ns;

static inline uint64_t thread_cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline void spend(int work, uint64_t begin_ns)
{
    __atomic_fetch_add(&spent_ns[work], thread_cpu_ns() - begin_ns, __ATOMIC_RELAXED);
}

static inline uint64_t spent_in_all_ns(void)
{
    uint64_t sum = 0;
    for (int work = 0; work < 3; work++)
        sum += __atomic_load_n(&spent_ns[work], __ATOMIC_RELAXED);
    return sum;
}

static inline uint64_t limit_ns(int argc, char **argv)
{
    return (argc > 1 ? strtoull(argv[1], NULL, 10) : default_ms) * 1000000u;
}

static inline int report(void)
{
    printf("cpu_ns work_a=%llu work_b=%llu work_c=%llu\n", (unsigned long long)spent_ns[0],
           (unsigned long long)spent_ns[1], (unsigned long long)spent_ns[2]);
    return fflush(stdout);
}

// A program that has a leaf or a chain of its own defines these before it includes this.
#ifndef OWN_SPIN
FRAME unsigned long spin(unsigned long x, unsigned long parts)
{
    unsigned long steps = PART_STEPS - (x >> 40) % JITTER_STEPS;
    for (unsigned long step = 0; step < parts * steps; step++) {
        x = x * 31 + 7;
        KEEP(x);
    }
    return x;
}
#endif

// What the work functions call; spin alone unless the program has more.
#ifndef BELOW_WORK
#define BELOW_WORK spin
#endif

#define WORK(name, index, parts)              \
    FRAME unsigned long name(unsigned long x) \
    {                                         \
        uint64_t begin_ns = thread_cpu_ns();  \
        x = BELOW_WORK(x, parts);             \
        spend(index, begin_ns);               \
        return x;                             \
    }

#define ALL_WORK     \
    WORK(work_a, 0, 6) \
    WORK(work_b, 1, 3) \
    WORK(work_c, 2, 1)

#define DISPATCH                                  \
    FRAME unsigned long dispatch(unsigned long x) \
    {                                             \
        x = work_a(x);                            \
        x = work_b(x);                            \
        x = work_c(x);                            \
        KEEP(x);                                  \
        return x + 1;                             \
    }

#define MAIN                                    \
    int main(int argc, char **argv)             \
    {                                           \
        uint64_t limit = limit_ns(argc, argv);  \
        unsigned long x = 1;                    \
        while (spent_in_all_ns() < limit)       \
            x = dispatch(x);                    \
        return report() != 0 || x == 0;         \
    }

#endif
