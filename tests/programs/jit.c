// Makes a function at run time, says its name in /tmp/perf-PID.map as JIT compilers do, and spins in it. Prints
// "ready" once it does.
//
//     jit [fifo]      (with fifo, a named pipe that nobody writes to stands in the map's place)
//
// The map is removed when SIGTERM ends it.
// gcc -O0 -g -fno-omit-frame-pointer
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

// push rbp; mov rbp, rsp; mov eax, 50000000; loop: dec eax; jnz loop; pop rbp; ret
static const unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0xb8, 0x80, 0xf0, 0xfa, 0x02,
                                     0xff, 0xc8, 0x75, 0xfc, 0x5d, 0xc3};
static char path[64];

static void end(int signal)
{
    (void)signal;
    unlink(path);
    _exit(0);
}

int main(int argc, char **argv)
{
    signal(SIGTERM, end);
    snprintf(path, sizeof path, "/tmp/perf-%d.map", (int)getpid());
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return 1;
    memcpy(page, code, sizeof code);
    if (mprotect(page, 4096, PROT_READ | PROT_EXEC) != 0)
        return 1;
    if (argc > 1 && strcmp(argv[1], "fifo") == 0) {
        if (mkfifo(path, 0600) != 0)
            return 1;
    } else {
        FILE *map = fopen(path, "w");
        if (map == NULL)
            return 1;
        fprintf(map, "%lx %zx jit::made_at_run_time\n", (unsigned long)page, sizeof code);
        fclose(map);
    }
    puts("ready");
    fflush(stdout);
    void (*function)(void) = (void (*)(void))page;
    for (;;)
        function();
}
