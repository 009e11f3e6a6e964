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

# at_most_percent <part> <whole> <percent>, of at least one.
at_most_percent() { [ "$2" -gt 0 ] && [ $(($1 * 100)) -le $(($2 * $3)) ]; }

# near <part> <whole> <percent>: the share is as near as so many samples tell. 4 standard deviations of a binomial
# distribution, and a point for the program: its rounds are short, but an emulated CPU is no even clock.
near() {
    awk -v part="$1" -v whole="$2" -v want="$3" 'BEGIN {
        if (!whole) exit 1
        off = 100 * part / whole - want
        off = (off < 0 ? -off : off) - 1
        # This awk has no square root.
        exit !(off <= 0 || off * off <= 16 * want * (100 - want) / whole)
    }'
}

# within <part> <whole> <percent>: the share is 3 points off at most.
within() {
    awk -v part="$1" -v whole="$2" -v want="$3" 'BEGIN {
        if (!whole) exit 1
        off = 100 * part / whole - want
        exit !(off >= -3 && off <= 3)
    }'
}

# cpu_ticks <pid>: hundredths of a second that the process has run, all its threads.
cpu_ticks() {
    awk '{ sub(/.*[)] /, ""); print $12 + $13 }' "/proc/$1/stat" 2> /dev/null || echo 0
}

# ran <pid> <ticks>: returns when the process has run so long, or after 30 s. An emulated CPU may stand still for long.
ran() {
    for _ in $(seq 300); do
        [ "$(cpu_ticks "$1")" -ge "$2" ] && return
        sleep 0.1
    done
}

# nicely <command...> &: a load. On a machine that does other things an emulated CPU is slow, and kovar must come to its
# turn.
nicely() { exec sh -c 'renice -n 10 -p $$ > /dev/null; exec "$@"' sh "$@"; }

# What the sampler cost in the kernel, from the descriptors of its programs; several may hold the same one.
cost() {
    cat /proc/"$1"/fdinfo/* | awk '
        /^prog_type:/ { type = $2 } /^prog_id:/ { id = $2 } /^run_time_ns:/ { ns[id] = $2 }
        /^run_cnt:/ { runs[id] = $2; types[id] = type }
        END { for (id in runs) if (runs[id])
            printf "KOVAR-VM note program type %s: %d runs, %d ns each\n", types[id], runs[id], ns[id] / runs[id] }'
}

# account <log>: says where the ticks of a profile went, and leaves the percentage of those on a busy CPU that were
# delivered in $delivered. An emulated CPU that stood still has missed all ticks of that time, but its processes' CPU time
# counts it.
account() {
    say note "$(tr -s ' \n' ' ' < "$1")"
    delivered=$(sed -n 's/^ *delivered *[0-9]* *\([0-9]*\)[.0-9]* % of .*/\1/p' "$1")
    delivered=${delivered:-100}
}

# half_of <samples> <ticks>: at least half of what so many hundredths of a second at 97 Hz should bring, and some.
half_of() { [ "$1" -ge 10 ] && [ $(($1 * 20000)) -ge $(($2 * 97 * delivered)) ]; }

# Returns when the process has loaded its programs, or after 60 s.
loaded() {
    for _ in $(seq 300); do
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

# --- a container, by its cgroup, also one that ran for half a second; four of them, for where a CPU stands still ---
id=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
kovar profile --duration 10s --container 0123456789ab --output /tmp/container.folded > /tmp/container.log 2>&1 &
profiler=$!
cp /bin/split /bin/inside
loaded $profiler
sleep 0.5
nicely split 600 1 &
outside=$!
for _ in 1 2 3 4; do
    mkdir -p /sys/fs/cgroup/docker/$id
    sh -c "echo \$\$ > /sys/fs/cgroup/docker/$id/cgroup.procs; exec inside 600 1" &
    short=$!
    ran $short 50
    kill -9 $short
    # Also the group is gone, once the process is.
    for _ in 1 2 3 4 5; do
        rmdir /sys/fs/cgroup/docker/$id 2> /dev/null && break
        sleep 0.1
    done
done
wait $profiler
status=$?
kill $outside
check container-profile "exit status $status" [ "$status" -eq 0 ]
[ -f /tmp/container.folded ] || : > /tmp/container.folded
inside=$(samples /tmp/container.folded '^inside;')
named=$(samples /tmp/container.folded '^inside;.*main;dispatch')
others=$(samples /tmp/container.folded '^split;')
say note "samples of containers that ran for half a second: $inside, $named of them named, of others $others"
check container-short-lived "$inside samples" at_least "$inside" 8
check container-named "no stack main;dispatch of a process that has gone" at_least "$named" 1
[ "$named" -ge 1 ] || cat /tmp/container.log /tmp/container.folded
check container-others "$others samples of a process outside" [ "$others" -eq 0 ]

# --- the known split, on every CPU ---
nicely split 600 &
load=$!
kovar profile --duration 12s --output /tmp/split.folded > /tmp/profile.log 2>&1 &
profiler=$!
loaded $profiler
before=$(cpu_ticks $load)
sleep 8
ticks=$(($(cpu_ticks $load) - before))
cost $profiler
wait $profiler
status=$?
kill $load
account /tmp/profile.log
check profile "exit status $status" [ "$status" -eq 0 ]
[ -f /tmp/split.folded ] || : > /tmp/split.folded

all=$(samples /tmp/split.folded '^split;.*main;dispatch')
a=$(samples /tmp/split.folded '^split;.*main;dispatch;work_a[; ]')
b=$(samples /tmp/split.folded '^split;.*main;dispatch;work_b[; ]')
c=$(samples /tmp/split.folded '^split;.*main;dispatch;work_c[; ]')
total=$(samples /tmp/split.folded '.')
say note "samples: $total in all, $all below dispatch: $a work_a, $b work_b, $c work_c"
# The first process of the load alone, in a part of the profile.
check enough-samples "$total samples where one process ran for $ticks hundredths of a second" half_of "$total" "$ticks"
check enough-time "$ticks hundredths of a second" at_least "$ticks" 200
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

# --- stacks without frame pointers ---
# An emulated CPU may stand still for half of the time.
unwound_rate_hz=997 unwound_samples=6000

# unwound <program> <prefix of the checks> <seconds> <regular expression of a whole stack>: profiles the program, which
# runs before, so that its loading is in no sample, and leaves its stacks in /tmp/<program>.own.
unwound() {
    program=$1 prefix=$2 seconds=$3 stack=$4
    nicely "$program" 6000000 > /dev/null &
    load=$!
    ran $load 20
    kovar profile --duration ${seconds}s --rate-hz $unwound_rate_hz --output "/tmp/$program.folded" \
        > /tmp/profile.log 2>&1
    status=$?
    kill $load
    account /tmp/profile.log
    check "$prefix-profile" "exit status $status" [ "$status" -eq 0 ]
    [ -f "/tmp/$program.folded" ] || : > "/tmp/$program.folded"
    grep "^$program;" "/tmp/$program.folded" > "/tmp/$program.own"
    whole=$(samples "/tmp/$program.own" .)
    incomplete=$(samples "/tmp/$program.own" ';[[]incomplete')
    legal=$(samples "/tmp/$program.own" "$stack")
    a=$(samples "/tmp/$program.own" ';work_a[; ]')
    b=$(samples "/tmp/$program.own" ';work_b[; ]')
    c=$(samples "/tmp/$program.own" ';work_c[; ]')
    all=$((a + b + c))
    say note "samples of $program: $whole, $incomplete incomplete, $legal with the known chain, work $a $b $c"
    check "$prefix-samples" "$whole samples, $all below the three works" at_least "$all" $unwound_samples
    check "$prefix-complete" "$incomplete of $whole are incomplete" at_most_percent "$incomplete" "$whole" 1
    check "$prefix-legal" "$((whole - legal)) of $whole have another chain" \
        at_most_percent $((whole - legal)) "$whole" 1
    check "$prefix-a" "$a of $all, not 60 %" within "$a" "$all" 60
    check "$prefix-b" "$b of $all, not 30 %" within "$b" "$all" 30
    check "$prefix-c" "$c of $all, not 10 %" within "$c" "$all" 10
    # Why, and the most frequent of the others; names and reasons have spaces.
    reasons=$(sed -n 's/^[^;]*;[[]incomplete: \([^];]*\)[];].* \([0-9]*\)$/\2 \1/p' "/tmp/$program.own" |
        awk '{ n = $1; $1 = ""; sum[$0] += n } END { for (why in sum) printf "%d%s, ", sum[why], why }')
    [ -z "$reasons" ] || say note "incomplete stacks of $program: ${reasons%, }"
    [ $(((whole - legal) * 100)) -le "$whole" ] || grep -v -E "$stack" "/tmp/$program.own" |
        awk '{ print $NF, substr($0, 1, 300) }' | sort -n | tail -n 8 | while read -r line; do say note "$line"; done
}

# Whether a tick meets main, dispatch, one of the three or what that calls.
unwound plain unwind 18 ';main( |;dispatch( |;work_[abc][ ;]))'

# Frames whose size is known at run time only, in a file with its C library.
unwound alloca unwind-alloca 18 \
    ';main( |;dispatch( |;work_[abc]( |;[^;]*clock_gettime|;variable( |;[^;]*memset|;realigned[ ;]))))'

# Each jump leaves its own function out; what is small enough is put into its caller.
unwound tailcall unwind-tailcall 18 \
    ';main( |;dispatch |(;dispatch)?(;hop)?(;skip)?;work_[abc]( |;[^;]*clock_gettime|(;burn)?;spin[ ;]|;burn ))'

# A walk through 500 frames may take longer than a tick there.
unwound deep unwind-deep 30 ';main( |;dispatch( |(;descend)+( |;work_[abc][ ;])))'
# Of 500 calls of descend each must be there.
deepest=$(awk '/;work_[abc][ ;]/ { n = gsub(/;descend/, ""); if (n == 500) sum += $NF; else other += $NF }
    END { print sum + 0, other + 0 }' /tmp/deep.own)
check unwind-deep-500 "samples with 500 frames and with others: $deepest" \
    at_most_percent "${deepest#* }" "$((${deepest% *} + ${deepest#* }))" 1

# --- a CPU that goes and comes back ---
online=/sys/devices/system/cpu/cpu1/online
if [ ! -w $online ]; then
    say skip "hotplug cpu1 cannot be taken offline"
    finish
fi
cp /bin/split /bin/late
kovar profile --duration 14s --output /tmp/late.folded > /tmp/profile.log 2>&1 &
profiler=$!
loaded $profiler
sleep 3
# Back before anybody can have looked: the event of such a CPU is dead and does not say so.
echo 0 > $online
echo 1 > $online
# Bound to the returned CPU: only a sampler that followed it sees this process at all.
nicely taskset 2 late 600 1 &
late=$!
nicely taskset 1 split 600 1 &
stayed=$!
sleep 7
late_ticks=$(cpu_ticks $late) stayed_ticks=$(cpu_ticks $stayed)
wait $profiler
status=$?
kill $late $stayed
account /tmp/profile.log
check hotplug-profile "exit status $status" [ "$status" -eq 0 ]
[ -f /tmp/late.folded ] || : > /tmp/late.folded
late=$(samples /tmp/late.folded '^late;')
stayed=$(samples /tmp/late.folded '^split;')
say note "samples after cpu1 came back: $late on it in $late_ticks ticks, $stayed on cpu0 in $stayed_ticks"
check hotplug-returned "$late samples on cpu1 in $late_ticks hundredths of a second" half_of "$late" "$late_ticks"
check hotplug-stayed "$stayed samples on cpu0 in $stayed_ticks hundredths of a second" half_of "$stayed" "$stayed_ticks"
check hotplug-time "$late_ticks and $stayed_ticks hundredths of a second" \
    at_least "$late_ticks" 40
finish
