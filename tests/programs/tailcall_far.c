// The other file of tailcall.c: hop jumps to the work.
#include "tailcall.h"

#define WORK(name, index, parts)                                          \
    __attribute__((noinline)) unsigned long name(unsigned long x)         \
    {                                                                     \
        uint64_t begin_ns = clock_ns();                                   \
        x = burn(x, parts);                                               \
        add_spent(index, begin_ns);                                       \
        return x;                                                         \
    }

WORK(work_a, 0, 6)
WORK(work_b, 1, 3)
WORK(work_c, 2, 1)

__attribute__((noinline)) static unsigned long skip(unsigned long x, int kind)
{
    if (kind == 1)
        return work_b(x * 3);
    return work_c(x * 5);
}

__attribute__((noinline)) unsigned long hop(unsigned long x, int kind)
{
    if (kind == 0)
        return work_a(x + 1);
    return skip(x, kind);
}
