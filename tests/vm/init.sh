#!/bin/sh
# The guest's first process: runs kovar beside a program whose profile is known, says what held, and powers off.
# Each check prints one line: KOVAR-VM pass|fail|skip <name> [<why>].

say() { echo "KOVAR-VM $*"; }

finish() {
    say end
    sync
    poweroff -f
    # The machine is gone before this; a first process must not return.
    while :; do sleep 60; done
}

/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo 1 > /proc/sys/kernel/bpf_stats_enabled
say note "kernel $(uname -r), $(nproc) CPUs"

# check <name> <why it fails> <command...>: passes when the command succeeds.
check() {
    name=$1 why=$2
    shift 2
    if "$@"; then say pass "$name"; else say fail "$name $why"; fi
}

# samples <file> <regular expression>: how many samples have a stack that matches.
samples() {
    awk -v pattern="$2" '$0 ~ pattern { sum += $NF } END { print sum + 0 }' "$1"
}

at_least() { [ "$1" -ge "$2" ]; }

# near <part> <whole> <percent>: the share is within 5 points.
near() {
    awk -v part="$1" -v whole="$2" -v want="$3" \
        'BEGIN { got = whole ? 100 * part / whole : -100; exit !(got >= want - 5 && got <= want + 5) }'
}

# What the sampler cost in the kernel, from the descriptors of its programs; several may hold the same one.
cost() {
    cat /proc/"$1"/fdinfo/* | awk '
        /^prog_type:/ { type = $2 } /^prog_id:/ { id = $2 } /^run_time_ns:/ { ns[id] = $2 }
        /^run_cnt:/ { runs[id] = $2; types[id] = type }
        END { for (id in runs) if (runs[id])
            printf "KOVAR-VM note program type %s: %d runs, %d ns each\n", types[id], runs[id], ns[id] / runs[id] }'
}

# Returns when the process has loaded its programs, or after 20 s.
loaded() {
    for _ in $(seq 100); do
        cat /proc/"$1"/fdinfo/* 2> /dev/null | grep -q '^prog_type' && return
        sleep 0.2
    done
}

kovar doctor > /tmp/doctor 2>&1
status=$?
cat /tmp/doctor
check doctor "exit status $status" [ "$status" -eq 0 ]

# --- CAP_SYS_RESOURCE (24): needed where BPF memory is charged to RLIMIT_MEMLOCK, before 5.11 ---
without 24 kovar profile --duration 1s --output /tmp/without.folded > /tmp/without.log 2>&1
status=$?
case $(uname -r) in
5.10.*)
    check memlock-refused "exit status $status" [ "$status" -eq 1 ]
    check memlock-named "$(head -n 1 /tmp/without.log)" grep -q 'CAP_SYS_RESOURCE' /tmp/without.log
    ;;
*) check memlock-not-needed "exit status $status: $(head -n 1 /tmp/without.log)" [ "$status" -eq 0 ] ;;
esac

# --- a container, by its cgroup, also one that lived for 300 ms ---
id=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
mkdir -p /sys/fs/cgroup/docker/$id
kovar profile --duration 6s --container 0123456789ab --output /tmp/container.folded > /tmp/container.log 2>&1 &
profiler=$!
cp /bin/split /bin/inside
loaded $profiler
sleep 0.5
sh -c "echo \$\$ > /sys/fs/cgroup/docker/$id/cgroup.procs; exec inside 60 1" &
short=$!
split 60 1 &
outside=$!
sleep 0.3
kill -9 $short
rmdir /sys/fs/cgroup/docker/$id 2> /dev/null
wait $profiler
status=$?
kill $outside
check container-profile "exit status $status" [ "$status" -eq 0 ]
[ -f /tmp/container.folded ] || : > /tmp/container.folded
inside=$(samples /tmp/container.folded '^inside;.*main;dispatch')
others=$(samples /tmp/container.folded '^split;')
say note "samples of a container that lived for 300 ms: $inside, of others $others"
check container-short-lived "$inside samples" at_least "$inside" 3
[ "$inside" -ge 3 ] || cat /tmp/container.log /tmp/container.folded
check container-others "$others samples of a process outside" [ "$others" -eq 0 ]

# --- the known split, on every CPU ---
split 60 &
load=$!
kovar profile --duration 6s --output /tmp/split.folded > /tmp/profile.log 2>&1 &
profiler=$!
sleep 5
cost $profiler
wait $profiler
status=$?
kill $load
[ "$status" -eq 0 ] || cat /tmp/profile.log
check profile "exit status $status" [ "$status" -eq 0 ]
[ -f /tmp/split.folded ] || : > /tmp/split.folded

all=$(samples /tmp/split.folded '^split;.*main;dispatch')
a=$(samples /tmp/split.folded '^split;.*main;dispatch;work_a[; ]')
b=$(samples /tmp/split.folded '^split;.*main;dispatch;work_b[; ]')
c=$(samples /tmp/split.folded '^split;.*main;dispatch;work_c[; ]')
total=$(samples /tmp/split.folded '.')
say note "samples: $total in all, $all below dispatch: $a work_a, $b work_b, $c work_c"
# 97 Hz on two CPUs for 6 s is 1164; the start of the emulated profiler takes its part.
check enough-samples "$total samples" at_least "$total" 580
check split-a "$a of $all, not 60 %" near "$a" "$all" 60
check split-b "$b of $all, not 30 %" near "$b" "$all" 30
check split-c "$c of $all, not 10 %" near "$c" "$all" 10
in_kernel=$(samples /tmp/split.folded '_[[]k[]]')
check kernel-frames "no kernel frame" at_least "$in_kernel" 1
# The user half of a stack that was interrupted in the kernel, and the kernel half above it.
both=$(samples /tmp/split.folded '^split;.*reader;read_zero;.*(vfs_read|ksys_read)_[[]k[]]')
check user-below-kernel "no stack reader;read_zero;...vfs_read_[k]" at_least "$both" 10
if [ "$both" -lt 10 ] || [ "$all" -eq 0 ]; then
    sort -t' ' -k2 /tmp/split.folded | tail -n 12
fi

# --- a CPU that goes and comes back ---
online=/sys/devices/system/cpu/cpu1/online
if [ ! -w $online ]; then
    say skip "hotplug cpu1 cannot be taken offline"
    finish
fi
cp /bin/split /bin/late
kovar profile --duration 9s --output /tmp/late.folded > /tmp/profile.log 2>&1 &
profiler=$!
sleep 3
# Back before anybody can have looked: the event of such a CPU is dead and does not say so.
echo 0 > $online
echo 1 > $online
# Bound to the returned CPU: only a sampler that followed it sees this process at all.
taskset 2 late 4 1 &
taskset 1 split 4 1 &
wait $profiler
status=$?
[ "$status" -eq 0 ] || cat /tmp/profile.log
check hotplug-profile "exit status $status" [ "$status" -eq 0 ]
[ -f /tmp/late.folded ] || : > /tmp/late.folded
late=$(samples /tmp/late.folded '^late;.*main;dispatch')
stayed=$(samples /tmp/late.folded '^split;.*main;dispatch')
say note "samples after cpu1 came back: $late on it, $stayed on cpu0"
# Each of them shares its CPU with its own reader thread: half of 97 Hz for 4 s, and some slack.
check hotplug-returned "$late samples on cpu1 after it came back" at_least "$late" 80
check hotplug-stayed "$stayed samples on cpu0" at_least "$stayed" 80
finish
