// Starts processes, some at a time, until each has been run as often as asked.
//
//     gale TIMES AT_A_TIME (keep|delete) PROGRAM...
//
// With delete, a program's file is deleted as soon as it runs. Ends with 1 when one of them fails.
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

// Returns once the new process has left this program behind, which closes the pipe.
static int start(char *program)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return 0;
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execv(program, (char *[]){program, NULL});
        _exit(127);
    }
    close(ends[1]);
    char byte;
    ssize_t length = pid > 0 ? read(ends[0], &byte, 1) : -1;
    close(ends[0]);
    return length == 0;
}

static void reap(void)
{
    int status;
    if (wait(&status) < 0 || status != 0)
        exit(1);
}

int main(int argc, char **argv)
{
    if (argc < 5)
        return 2;
    long times = atol(argv[1]), at_a_time = atol(argv[2]), live = 0;
    int delete = strcmp(argv[3], "delete") == 0;
    for (long time = 0; time < times; time++) {
        for (char **program = argv + 4; *program != NULL; program++) {
            if (live == at_a_time) {
                reap();
                live--;
            }
            if (!start(*program) || (delete && unlink(*program) != 0)) {
                perror(*program);
                return 1;
            }
            live++;
        }
    }
    for (; live > 0; live--)
        reap();
    return 0;
}
