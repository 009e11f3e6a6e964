// Starts short processes at a steady rate: fork, exec of /bin/true, exit.
//
//     churn [SECONDS [PER_SECOND]]      (10 seconds and 50 a second when not given)
//
// Ends with 1 when a process cannot be started.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// More than these at once means that the machine does not keep up; then it waits for one to end.
enum { LIVE_MAX = 64, NS_PER_SECOND = 1000000000 };

static int start_one(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/true", "true", (char *)NULL);
        _exit(127);
    }
    return pid > 0;
}

// Takes leave of those that have ended, or of one at least.
static int reap(int live)
{
    int status;
    while (live > 0 && waitpid(-1, &status, live < LIVE_MAX ? WNOHANG : 0) > 0) {
        if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
            exit(1);
        live--;
    }
    return live;
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 10;
    long per_second = argc > 2 ? atol(argv[2]) : 50;
    if (per_second < 1 || per_second > NS_PER_SECOND)
        return 2;
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    int live = 0;
    for (long left = (long)(seconds * (double)per_second); left > 0; left--) {
        if (!start_one()) {
            perror("fork");
            return 1;
        }
        live = reap(live + 1);
        next.tv_nsec += NS_PER_SECOND / per_second;
        if (next.tv_nsec >= NS_PER_SECOND) {
            next.tv_nsec -= NS_PER_SECOND;
            next.tv_sec++;
        }
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
    while (wait(NULL) > 0) {
    }
    return 0;
}
