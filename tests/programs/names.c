// Starts short busy processes one after another under a thousand names, one for each.
//
//     names [SECONDS [FIRST]]      (10 seconds and the names from name-0 on when not given)
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { NAMES = 1000, BUSY_US = 2000 };

static double now_s(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void be_busy(long number)
{
    char name[16];
    snprintf(name, sizeof name, "name-%ld", number);
    prctl(PR_SET_NAME, name);
    while (now_s(CLOCK_PROCESS_CPUTIME_ID) < BUSY_US / 1e6) {
    }
}

int main(int argc, char **argv)
{
    double end_s = now_s(CLOCK_MONOTONIC) + (argc > 1 ? atof(argv[1]) : 10);
    long first = argc > 2 ? atol(argv[2]) : 0;
    for (long round = 0; now_s(CLOCK_MONOTONIC) < end_s; round++) {
        pid_t pid = fork();
        if (pid < 0)
            return 1;
        if (pid == 0) {
            be_busy(first + round % NAMES);
            _exit(0);
        }
        if (waitpid(pid, NULL, 0) != pid)
            return 1;
    }
    return 0;
}
