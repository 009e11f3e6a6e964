// The work is done 500 calls deep.
#define BELOW_WORK spin
#include "chain.h"

enum { DEPTH = 500 };

ALL_WORK

FRAME unsigned long descend(unsigned long x, unsigned long depth, unsigned long (*work)(unsigned long))
{
    x = depth > 1 ? descend(x, depth - 1, work) : work(x);
    KEEP(x);
    return x;
}

FRAME unsigned long dispatch(unsigned long x)
{
    x = descend(x, DEPTH, work_a);
    x = descend(x, DEPTH, work_b);
    x = descend(x, DEPTH, work_c);
    KEEP(x);
    return x;
}

MAIN
