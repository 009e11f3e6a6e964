// Frames of a size known at run time only, and stacks that are realigned in the middle of them.
#include <alloca.h>
#include <string.h>

#define BELOW_WORK variable
static unsigned long variable(unsigned long x, unsigned long parts);
#include "chain.h"

// Aligned more than the caller's frame is, with a variable part below: its frame is found through a saved pointer.
FRAME unsigned long realigned(unsigned long x, unsigned long parts)
{
    __attribute__((aligned(128))) volatile char line[128];
    char *room = alloca(32 + (x & 511));
    memset(room, (int)x, 32);
    line[x & 127] = room[0];
    x = spin(x, parts);
    return x + (line[x & 127] == room[31]);
}

FRAME static unsigned long variable(unsigned long x, unsigned long parts)
{
    char rows[16 + (x & 1023)];
    memset(rows, (int)x, sizeof rows);
    x = realigned(x, parts);
    return x + (rows[x & 15] == 1);
}

ALL_WORK
DISPATCH
MAIN
