// Starts a profiler and measures it beside a program that spins at one depth after the other. Nothing else runs and no
// process is started while a depth is measured.
//
//     meter SINK_LOG WARM_UP AFTER_DEPTH PUSHES PROFILER [ARGUMENT...]
//
// The profiler's pushes are seen by the growth of SINK_LOG; a depth is measured from one push to the PUSHES-th after it.
// WARM_UP is run before the first depth, AFTER_DEPTH once a depth has been measured, both with the name of the spinning
// program. Prints:
//
//     KOVAR-VM measured start cpu_ns=N
//     KOVAR-VM measured depthN samples=N kernel_ns=N user_ns=N elapsed_ns=N
//
// cpu_ns is the CPU time of the profiler's process from its exec until its program in the kernel has run for the first
// time. kernel_ns is run_time_ns of that program (which the kernel takes around its tail calls as well), samples its
// run_cnt, user_ns the CPU time of all threads of the process, ended ones included.
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PERF_EVENT = 7 }; // BPF_PROG_TYPE_PERF_EVENT of <linux/bpf.h>
static const double POLL_S = 0.01, WARM_UP_S = 12, START_LIMIT_S = 300, PUSH_LIMIT_S = 60;
// One push may be several requests; the next one is 5 s away.
static const double PUSH_APART_S = 2.5;
static const char *const DEPTHS[] = {"depth8", "depth34", "depth103"};

struct moment {
    unsigned long long samples, kernel_ns, user_ns, at_ns;
};

static pid_t profiler;
static const char *sink_log;

static void fail(const char *why)
{
    printf("KOVAR-VM fail %s\n", why);
    if (profiler > 0)
        kill(profiler, SIGKILL);
    exit(1);
}

static unsigned long long clock_ns(clockid_t clock)
{
    struct timespec now;
    if (clock_gettime(clock, &now) != 0)
        fail("the profiler's clock cannot be read: it has ended");
    return (unsigned long long)now.tv_sec * 1000000000 + (unsigned long long)now.tv_nsec;
}

static void pause_s(double seconds)
{
    struct timespec time = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&time, NULL);
}

// The program of the kind that runs at each tick which has run most often.
static void read_programs(struct moment *moment)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fdinfo", profiler);
    DIR *dir = opendir(path);
    if (!dir)
        fail("the profiler has ended");
    for (struct dirent *entry; (entry = readdir(dir));) {
        char text[1024];
        int fd = openat(dirfd(dir), entry->d_name, O_RDONLY | O_CLOEXEC);
        ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
        if (fd >= 0)
            close(fd);
        if (got <= 0)
            continue;
        text[got] = 0;
        const char *kind = strstr(text, "prog_type:"), *runs = strstr(text, "run_cnt:"), *ns = strstr(text, "run_time_ns:");
        if (!kind || !runs || !ns || atoi(kind + strlen("prog_type:")) != PERF_EVENT)
            continue;
        unsigned long long samples = strtoull(runs + strlen("run_cnt:"), NULL, 10);
        if (samples <= moment->samples)
            continue;
        moment->samples = samples;
        moment->kernel_ns = strtoull(ns + strlen("run_time_ns:"), NULL, 10);
    }
    closedir(dir);
}

static struct moment now(void)
{
    struct moment moment = {0};
    clockid_t clock;
    if (clock_getcpuclockid(profiler, &clock) != 0)
        fail("the profiler has ended");
    moment.user_ns = clock_ns(clock);
    moment.at_ns = clock_ns(CLOCK_MONOTONIC);
    read_programs(&moment);
    return moment;
}

// Starts a program with its output in /tmp/NAME.log; it ends with this process.
static pid_t start(const char *name, char *const *arguments)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    char path[64];
    snprintf(path, sizeof path, "/tmp/%s.log", name);
    int log = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    execvp(arguments[0], arguments);
    perror(arguments[0]);
    _exit(127);
}

static void stop(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void wait_push(void)
{
    struct stat before, log;
    if (stat(sink_log, &before) != 0)
        fail("there is no log of a sink");
    for (double waited = 0; waited < PUSH_LIMIT_S; waited += POLL_S) {
        pause_s(POLL_S);
        if (stat(sink_log, &log) == 0 && log.st_size > before.st_size) {
            pause_s(PUSH_APART_S);
            return;
        }
    }
    fail("nothing is pushed");
}

static void run_script(const char *script, const char *depth)
{
    pid_t running = fork();
    if (running == 0) {
        execlp("sh", "sh", script, depth, NULL);
        _exit(127);
    }
    int status;
    if (waitpid(running, &status, 0) != running || status != 0)
        fail(script);
}

static void measure(const char *depth, int pushes, const char *after)
{
    pid_t spinning = start(depth, (char *const[]){(char *)depth, NULL});
    pause_s(WARM_UP_S);
    wait_push();
    struct moment first = now();
    for (int i = 0; i < pushes; i++)
        wait_push();
    struct moment last = now();
    printf("KOVAR-VM measured %s samples=%llu kernel_ns=%llu user_ns=%llu elapsed_ns=%llu\n", depth,
           last.samples - first.samples, last.kernel_ns - first.kernel_ns, last.user_ns - first.user_ns,
           last.at_ns - first.at_ns);
    fflush(stdout);
    run_script(after, depth);
    stop(spinning);
}

int main(int argc, char **argv)
{
    if (argc < 6) {
        fprintf(stderr, "usage: meter SINK_LOG WARM_UP AFTER_DEPTH PUSHES PROFILER [ARGUMENT...]\n");
        return 2;
    }
    sink_log = argv[1];
    int pushes = atoi(argv[4]);
    pid_t spinning = start(DEPTHS[0], (char *const[]){(char *)DEPTHS[0], NULL});
    profiler = start("profiler", argv + 5);
    struct moment first = {0};
    for (double waited = 0; first.samples == 0; waited += POLL_S) {
        if (waited > START_LIMIT_S)
            fail("no program of it has run");
        pause_s(POLL_S);
        if (waitpid(profiler, NULL, WNOHANG) != 0)
            fail("the profiler ended at once");
        first = now();
    }
    printf("KOVAR-VM measured start cpu_ns=%llu\n", first.user_ns);
    fflush(stdout);
    run_script(argv[2], DEPTHS[0]);
    stop(spinning);
    for (size_t i = 0; i < sizeof DEPTHS / sizeof *DEPTHS; i++)
        measure(DEPTHS[i], pushes, argv[3]);
    kill(profiler, SIGTERM);
    waitpid(profiler, NULL, 0);
    return 0;
}
