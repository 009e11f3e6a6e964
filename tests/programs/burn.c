// Spins for a while in one function, then ends or becomes another program with the same process id.
//
//     burn MILLISECONDS [PROGRAM ARGUMENTS...]
//
// The function's name is chosen by -DFUNCTION=name. Its stacks are read by frame pointers:
// gcc -O0 -g -fno-omit-frame-pointer
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#ifndef FUNCTION
#define FUNCTION burn_here
#endif

enum { STEPS = 20000 };

__attribute__((noinline)) static unsigned long FUNCTION(unsigned long x)
{
    for (unsigned long step = 0; step < STEPS; step++)
        __asm__ volatile("imul $31, %0, %0\n\tadd $7, %0" : "+r"(x));
    return x;
}

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

int main(int argc, char **argv)
{
    double end_ms = now_ms() + (argc > 1 ? atof(argv[1]) : 1000);
    unsigned long x = 1;
    while (now_ms() < end_ms)
        x = FUNCTION(x);
    if (argc > 2) {
        execv(argv[2], argv + 2);
        return 1;
    }
    return x == 0;
}
