// Starts short busy processes one after another, each under a name of its own.
//
//     names [SECONDS [BUSY_MS]]      (10 seconds and 2 milliseconds each when not given)
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now_s(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void be_busy(unsigned number, double busy_s)
{
    char name[16];
    snprintf(name, sizeof name, "name-%u", number);
    prctl(PR_SET_NAME, name);
    while (now_s(CLOCK_PROCESS_CPUTIME_ID) < busy_s) {
    }
}

int main(int argc, char **argv)
{
    double end_s = now_s(CLOCK_MONOTONIC) + (argc > 1 ? atof(argv[1]) : 10);
    double busy_s = (argc > 2 ? atof(argv[2]) : 2) / 1000;
    for (unsigned number = 0; now_s(CLOCK_MONOTONIC) < end_s; number++) {
        pid_t pid = fork();
        if (pid < 0)
            return 1;
        if (pid == 0) {
            be_busy(number, busy_s);
            _exit(0);
        }
        if (waitpid(pid, NULL, 0) != pid)
            return 1;
    }
    return 0;
}
