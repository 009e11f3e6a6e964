// Loads a library, works in it for a second, lets it go, and loads another version of it from the same path, every
// other time at another address.
//
//     reloading MILLISECONDS DIRECTORY
//
// The directory holds libone.so and libtwo.so; each in turn is liblive.so. -ldl
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include "chain.h"

enum { ROUND_NS = 1000000000, HOLE_BYTES = 1 << 20 };

typedef unsigned long (*run_function)(unsigned long x, uint64_t *spent_ns);

static uint64_t limit;

// The version that runs is known by which of these two called it.
#define VISIT(name)                                               \
    FRAME unsigned long name(unsigned long x, run_function run)   \
    {                                                             \
        uint64_t end_ns = spent_in_all_ns() + ROUND_NS;           \
        while (spent_in_all_ns() < end_ns && spent_in_all_ns() < limit) \
            x = run(x, spent_ns);                                 \
        KEEP(x);                                                  \
        return x;                                                 \
    }

VISIT(visit_one)
VISIT(visit_two)

FRAME unsigned long dispatch(unsigned long x, const char *directory, int round)
{
    char live[4096], version[4096];
    int two = round % 2;
    snprintf(live, sizeof live, "%s/liblive.so", directory);
    snprintf(version, sizeof version, "%s/%s", directory, two ? "libtwo.so" : "libone.so");
    unlink(live);
    if (link(version, live) != 0)
        exit(2);
    // Takes the place that the library had, so that the next one gets another.
    void *hole = round / 2 % 2 ? mmap(NULL, HOLE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : NULL;
    void *library = dlopen(live, RTLD_NOW);
    run_function run = library ? (run_function)dlsym(library, two ? "two_run" : "one_run") : NULL;
    if (run == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(2);
    }
    x = two ? visit_two(x, run) : visit_one(x, run);
    dlclose(library);
    if (hole != NULL)
        munmap(hole, HOLE_BYTES);
    return x;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    limit = limit_ns(argc, argv);
    unsigned long x = 1;
    for (int round = 0; spent_in_all_ns() < limit; round++)
        x = dispatch(x, argv[2], round);
    return report() != 0 || x == 0;
}
