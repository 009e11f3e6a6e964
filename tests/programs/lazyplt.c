// Short calls of the C library through stubs that find their target late, and of the kernel's own code that is mapped
// into every process. -fno-builtin -Wl,-z,lazy
#include <string.h>
#include <unistd.h>

#define OWN_SPIN
#define BELOW_WORK calls
static unsigned long calls(unsigned long x, unsigned long parts);
#include "chain.h"

enum { PART_CALLS = 2500 };

static const char text[] = "a text of some length, to be measured again and again";

FRAME static unsigned long calls(unsigned long x, unsigned long parts)
{
    struct timespec now;
    for (unsigned long call = 0; call < parts * PART_CALLS; call++) {
        x += strlen(text + (x & 15));
        x += (unsigned long)strcmp(text, text + (x & 7));
        clock_gettime(CLOCK_MONOTONIC, &now);
        x += (unsigned long)now.tv_nsec;
    }
    x += (unsigned long)getppid();
    KEEP(x);
    return x;
}

ALL_WORK
DISPATCH
MAIN
