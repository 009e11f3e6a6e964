// Exceptions thrown through several frames, and caught, while samples are taken.
#define BELOW_WORK attempt
extern "C" unsigned long attempt(unsigned long x, unsigned long parts);
#include "chain.h"

extern "C" {

// Throws from the bottom of a few frames, one of which has something to clean up.
FRAME unsigned long toss(unsigned long x, int depth)
{
    struct Cleanup {
        unsigned long &x;
        ~Cleanup() { x += 1; }
    } cleanup{x};
    if (depth == 0)
        throw x;
    x = toss(x, depth - 1);
    KEEP(x);
    return x;
}

FRAME unsigned long attempt(unsigned long x, unsigned long parts)
{
    for (unsigned long part = 0; part < parts; part++) {
        for (int time = 0; time < 12; time++) {
            try {
                x = toss(x, 3);
            } catch (unsigned long caught) {
                x += caught;
            }
        }
        x = spin(x, 1);
    }
    KEEP(x);
    return x;
}

ALL_WORK
DISPATCH
}
MAIN
