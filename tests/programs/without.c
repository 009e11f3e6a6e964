// without CAPABILITY_NUMBER PROGRAM [ARGUMENT...]: runs a program that lacks one capability.
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: %s CAPABILITY_NUMBER PROGRAM [ARGUMENT...]\n", argv[0]);
        return 2;
    }
    int capability = atoi(argv[1]);
    // Out of the bounding set, or exec gives it back to root.
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) {
        perror("prctl");
        return 2;
    }
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct sets[2];
    memset(sets, 0, sizeof sets);
    if (syscall(SYS_capget, &header, sets) != 0) {
        perror("capget");
        return 2;
    }
    unsigned int mask = ~(1u << (capability % 32));
    sets[capability / 32].effective &= mask;
    sets[capability / 32].permitted &= mask;
    sets[capability / 32].inheritable &= mask;
    if (syscall(SYS_capset, &header, sets) != 0) {
        perror("capset");
        return 2;
    }
    execvp(argv[2], argv + 2);
    perror(argv[2]);
    return 127;
}
