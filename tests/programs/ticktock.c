// Asks for the time again and again, which the kernel answers in code that it maps into every process.
// gcc -O0 -g -fno-omit-frame-pointer
#include <time.h>

int main(void)
{
    struct timespec now;
    for (;;)
        clock_gettime(CLOCK_MONOTONIC, &now);
}
