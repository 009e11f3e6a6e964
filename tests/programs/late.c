// late MILLISECONDS_IN_MAIN MILLISECONDS_IN_LIBRARY LIBRARY: spins in itself, then loads a library and spins there.
// With -DLIBRARY -shared it is that library. gcc -O0 -g -fno-omit-frame-pointer
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

__attribute__((noinline)) static void spin_until(double end_ms)
{
    volatile unsigned long x = 0;
    while (now_ms() < end_ms)
        for (int step = 0; step < 20000; step++)
            x = x * 31 + 7;
}

#ifdef LIBRARY
void in_library(double milliseconds) { spin_until(now_ms() + milliseconds); }
#else
int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    spin_until(now_ms() + atof(argv[1]));
    void *library = dlopen(argv[3], RTLD_NOW);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    void (*in_library)(double) = (void (*)(double))dlsym(library, "in_library");
    in_library(atof(argv[2]));
    return 0;
}
#endif
