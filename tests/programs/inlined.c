// Spins in a function that the compiler puts into its caller.
// gcc -O2 -g -fno-omit-frame-pointer
#include <stdlib.h>

static inline __attribute__((always_inline)) unsigned long innermost(unsigned long x)
{
    for (unsigned long step = 0; step < 20000; step++)
        __asm__ volatile("imul $31, %0, %0\n\tadd $7, %0" : "+r"(x)); // the line of innermost
    return x;
}

static inline __attribute__((always_inline)) unsigned long between(unsigned long x)
{
    return innermost(x + 1); // the line of between
}

// A call, so that outermost is no leaf: in those an optimizing gcc leaves the frame pointer out.
__attribute__((noinline)) static unsigned long pass(unsigned long x)
{
    __asm__ volatile("" : "+r"(x));
    return x;
}

__attribute__((noinline)) unsigned long outermost(unsigned long x)
{
    unsigned long sum = 0;
    for (unsigned long i = 0; i < 100; i++)
        sum += between(x + i); // the line of outermost
    return pass(sum) + 1;
}

int main(void)
{
    unsigned long x = 1;
    for (;;)
        x = outermost(x);
}
