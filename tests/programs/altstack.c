// The work is done in a signal handler on a stack of its own: in one half the signal is raised by a call, in the
// other a timer sends it at any instruction of a loop.
#include <signal.h>
#include <sys/time.h>

#include "chain.h"

enum { ALTERNATE_BYTES = 64 * 1024, TIMER_US = 150 };

static char alternate[ALTERNATE_BYTES];
static volatile unsigned long result = 1;
static volatile sig_atomic_t handled;

ALL_WORK

FRAME void on_signal(int signal)
{
    (void)signal;
    unsigned long x = result;
    x = work_a(x);
    x = work_b(x);
    x = work_c(x);
    result = x;
    handled++;
}

FRAME unsigned long raised(unsigned long x)
{
    raise(SIGUSR1);
    KEEP(x);
    return x + result;
}

FRAME unsigned long interrupted(unsigned long x)
{
    struct itimerval once = {.it_value = {.tv_usec = TIMER_US}};
    sig_atomic_t before = handled;
    setitimer(ITIMER_REAL, &once, NULL);
    while (handled == before) {
        x = x * 31 + 7;
        KEEP(x);
    }
    return x;
}

FRAME unsigned long dispatch(unsigned long x)
{
    x = raised(x);
    x = interrupted(x);
    KEEP(x);
    return x;
}

int main(int argc, char **argv)
{
    stack_t stack = {.ss_sp = alternate, .ss_size = ALTERNATE_BYTES};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    if (sigaltstack(&stack, NULL) != 0 || sigaction(SIGUSR1, &action, NULL) != 0 ||
        sigaction(SIGALRM, &action, NULL) != 0)
        return 2;
    uint64_t limit = limit_ns(argc, argv);
    unsigned long x = 1;
    while (spent_in_all_ns() < limit)
        x = dispatch(x);
    return report() != 0 || x == 0;
}
