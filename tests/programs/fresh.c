// Loads one library after another and calls into each at once: young() during the first 20 ms after it was loaded,
// old() for 40 ms of CPU time from then on.
//
//     fresh LIBRARY...
//
// Prints the loads and the CPU time spent in old(): loads=N old_ns=NANOSECONDS
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#define FRAME __attribute__((noinline, noipa))
#define KEEP(value) __asm__ volatile("" : "+r"(value))

enum { NS_PER_MS = 1000000, WARM_UP_MS = 1000, YOUNG_MS = 20, OLD_MS = 40 };

typedef unsigned long (*spin_function)(unsigned long x, clockid_t clock, uint64_t end_ns);

static uint64_t old_ns;

static uint64_t now_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// So that what is known of this program itself is known before the first load.
FRAME unsigned long warm_up(unsigned long x)
{
    uint64_t end_ns = now_ns(CLOCK_MONOTONIC) + (uint64_t)WARM_UP_MS * NS_PER_MS;
    while (now_ns(CLOCK_MONOTONIC) < end_ns)
        for (int step = 0; step < 20000; step++) {
            x = x * 31 + 7;
            KEEP(x);
        }
    return x;
}

FRAME unsigned long visit(unsigned long x, const char *path)
{
    void *library = dlopen(path, RTLD_NOW);
    uint64_t loaded_ns = now_ns(CLOCK_MONOTONIC);
    spin_function young = library ? (spin_function)dlsym(library, "young") : NULL;
    spin_function old = library ? (spin_function)dlsym(library, "old") : NULL;
    if (young == NULL || old == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 0;
    }
    x = young(x, CLOCK_MONOTONIC, loaded_ns + (uint64_t)YOUNG_MS * NS_PER_MS);
    uint64_t begin_ns = now_ns(CLOCK_THREAD_CPUTIME_ID);
    x = old(x, CLOCK_THREAD_CPUTIME_ID, begin_ns + (uint64_t)OLD_MS * NS_PER_MS);
    old_ns += now_ns(CLOCK_THREAD_CPUTIME_ID) - begin_ns;
    dlclose(library);
    return x | 1;
}

int main(int argc, char **argv)
{
    unsigned long x = warm_up(1);
    for (int i = 1; i < argc; i++) {
        x = visit(x, argv[i]);
        if (x == 0)
            return 1;
    }
    printf("loads=%d old_ns=%llu\n", argc - 1, (unsigned long long)old_ns);
    return 0;
}
