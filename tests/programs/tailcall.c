// Calls that the optimizer turns into jumps, across files, and functions it may put into their callers:
// gcc -O3 -flto tailcall.c tailcall_far.c
#include "tailcall.h"

#include "chain.h"


uint64_t clock_ns(void) { return thread_cpu_ns(); }

void add_spent(int work, uint64_t begin_ns) { spend(work, begin_ns); }

unsigned long burn(unsigned long x, unsigned long parts) { return spin(x, parts); }

static unsigned long dispatch(unsigned long x)
{
    for (int kind = 0; kind < 3; kind++)
        x = hop(x, kind);
    return x + 1;
}

MAIN
