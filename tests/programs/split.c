// Keeps CPUs busy in a known way: main calls dispatch, which calls work_a, work_b and work_c at 60, 30 and 10
// percent of the time; a thread beside them reads /dev/zero, so that samples hit the kernel too.
//
//     split [SECONDS [PROCESSES]]      (10 seconds and one process per CPU when not given)
//
// Its stacks are read by frame pointers, which an optimizing gcc leaves out of leaf functions whatever it is told:
// gcc -O0 -g -fno-omit-frame-pointer -pthread
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

// One part in ten of a round, short against the clock's tick.
enum { PART_STEPS = 20000, READ_BYTES = 64 * 1024 };

// Each function has a loop of its own, so that the time is spent in it and not in one they share.
#define WORK(name, parts)                                                          \
    __attribute__((noinline)) static unsigned long name(unsigned long x)           \
    {                                                                              \
        for (unsigned long step = 0; step < (parts) * (unsigned long)PART_STEPS; step++) \
            __asm__ volatile("imul $31, %0, %0\n\tadd $7, %0" : "+r"(x));          \
        return x;                                                                  \
    }

WORK(work_a, 6)
WORK(work_b, 3)
WORK(work_c, 1)

__attribute__((noinline)) static unsigned long dispatch(unsigned long x)
{
    x = work_a(x);
    x = work_b(x);
    x = work_c(x);
    return x + 1;
}

static char buffer[READ_BYTES];

// The system call stands here and not in libc, which follows no frame pointers.
__attribute__((noinline)) static long read_zero(int fd)
{
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"((long)SYS_read), "D"((long)fd), "S"(buffer), "d"((long)READ_BYTES)
                     : "rcx", "r11", "memory");
    return result;
}

static void *reader(void *arg)
{
    (void)arg;
    int fd = open("/dev/zero", O_RDONLY);
    if (fd < 0)
        exit(2);
    while (read_zero(fd) == READ_BYTES) {
    }
    exit(3);
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    double end_s = now_s() + (argc > 1 ? atof(argv[1]) : 10);
    long processes = argc > 2 ? atol(argv[2]) : sysconf(_SC_NPROCESSORS_ONLN);
    pid_t first = getpid();
    for (long i = 1; i < processes; i++) {
        pid_t pid = fork();
        if (pid < 0)
            return 1;
        if (pid == 0) {
            // Killed with the first one, however it ends.
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            break;
        }
    }
    pthread_t thread;
    if (getpid() == first && pthread_create(&thread, NULL, reader, NULL) != 0)
        return 1;
    unsigned long x = 1;
    while (now_s() < end_s)
        x = dispatch(x);
    return x == 0;
}
