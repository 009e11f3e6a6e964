// Spins for ever at one depth: its name ends with the number of frames on its stack, from _start to the innermost.
//
// gcc -static -O2 -fomit-frame-pointer -fno-optimize-sibling-calls; started as depth8, depth34, depth103
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// _start, two of libc, main; and at least one that spins.
enum { FRAMES_BELOW = 4, FRAMES_MIN = 5, FRAMES_MAX = 1000 };

static volatile int is_over; // Never, but the compiler must not know.

// Of a size that needs callee-saved registers on the stack, as most functions do.
__attribute__((noinline, noclone)) static unsigned long descend(long frames, unsigned long x)
{
    if (frames <= 1) {
        // Time is counted in instructions here, and these are the ones that an emulator is quickest with.
        while (!is_over)
            __asm__ volatile(".rept 8\n\tnop\n\t.endr" : "+r"(x));
        return x;
    }
    unsigned long below = descend(frames - 1, x * 31 + 7);
    return below ^ x ^ (unsigned long)frames;
}

int main(int argc, char **argv)
{
    const char *name = argc > 0 ? argv[0] : "";
    long frames = atol(name + strcspn(name, "0123456789"));
    if (frames < FRAMES_MIN || frames > FRAMES_MAX) {
        fprintf(stderr, "usage: depthN, with N from %d to %d\n", FRAMES_MIN, FRAMES_MAX);
        return 2;
    }
    return (int)descend(frames - FRAMES_BELOW, (unsigned long)argc);
}
