// 64 threads that do the same. -pthread
#include <pthread.h>

#include "chain.h"

enum { THREADS = 64 };

static uint64_t limit;

ALL_WORK
DISPATCH

FRAME void *thread_main(void *argument)
{
    unsigned long x = (unsigned long)argument;
    while (spent_in_all_ns() < limit)
        x = dispatch(x);
    KEEP(x);
    return (void *)x;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];
    limit = limit_ns(argc, argv);
    for (unsigned long i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, thread_main, (void *)(i + 1)) != 0)
            return 2;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    return report();
}
