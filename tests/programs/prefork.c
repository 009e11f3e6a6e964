// Workers that are forked before there is any work, and never call exec. Prints worker=PID for each.
#define _GNU_SOURCE
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "chain.h"

enum { WORKERS = 4 };

ALL_WORK
DISPATCH

FRAME int serve(uint64_t limit)
{
    unsigned long x = 1;
    while (spent_in_all_ns() < limit)
        x = dispatch(x);
    return x == 0;
}

int main(int argc, char **argv)
{
    uint64_t limit = limit_ns(argc, argv);
    void *shared = mmap(NULL, sizeof own_spent_ns, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 2;
    spent_ns = shared;
    for (int i = 0; i < WORKERS; i++) {
        pid_t pid = fork();
        if (pid < 0)
            return 2;
        if (pid > 0)
            printf("worker=%d\n", (int)pid);
        if (pid == 0) {
            // Killed with the first one, however it ends.
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            _exit(serve(limit));
        }
    }
    int status;
    while (wait(&status) > 0)
        if (status != 0)
            return 1;
    return report();
}
