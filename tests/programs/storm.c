// One of many short processes: spins in one function for a while of the thread's CPU time, then says how long it was.
//
//     storm [MILLISECONDS]      (30 when not given)
//
// Prints one line, in one piece: storm pid=PID name=FILE cpu_ns=NANOSECONDS. The four digits of the function's name are
// replaced in copies of the file.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { STEPS = 60000, NS_PER_MS = 1000000 };

static uint64_t thread_cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

__attribute__((noinline, noipa)) unsigned long storm_here_0000(unsigned long x, uint64_t end_ns)
{
    while (thread_cpu_ns() < end_ns)
        for (int step = 0; step < STEPS; step++) {
            x = x * 31 + 7;
            __asm__ volatile("" : "+r"(x));
        }
    return x;
}

int main(int argc, char **argv)
{
    uint64_t busy_ns = (argc > 1 ? strtoull(argv[1], NULL, 10) : 30) * NS_PER_MS;
    uint64_t begin_ns = thread_cpu_ns();
    unsigned long x = storm_here_0000(1, begin_ns + busy_ns);
    uint64_t spent_ns = thread_cpu_ns() - begin_ns;
    const char *slash = strrchr(argv[0], '/');
    char line[128];
    int length = snprintf(line, sizeof line, "storm pid=%d name=%s cpu_ns=%llu\n", (int)getpid(),
                          slash ? slash + 1 : argv[0], (unsigned long long)spent_ns);
    if (length < 0 || write(STDOUT_FILENO, line, (size_t)length) != length)
        return 1;
    return x == 0;
}
