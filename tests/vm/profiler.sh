#!/bin/sh
# The guest's first process when the cost of one profiler is counted: starts a destination that keeps nothing, lets the
# meter measure the profiler, and powers off. What it found is in lines `KOVAR-VM measured ...`.
# /profiler holds `kovar` or `peer`; the word pushes= of the kernel's command line is how many pushes a depth takes.

finish() {
    echo "KOVAR-VM end"
    sync
    poweroff -f
    while :; do sleep 60; done
}

/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t tracefs tracefs /sys/kernel/tracing
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo 1 > /proc/sys/kernel/bpf_stats_enabled
ifconfig lo 127.0.0.1 up
for frames in 8 34 103; do ln -s depth /bin/depth$frames; done

pushes=$(sed -n 's/.*pushes=\([0-9]*\).*/\1/p' /proc/cmdline)
log=/tmp/sink.log
case $(cat /profiler) in
kovar)
    sink 4040 > $log &
    cat > /tmp/kovar.yaml << YAML
profiler: {rate_hz: 97, push_interval: 5s}
storage: {path: /tmp/store}
ui: {listen: "127.0.0.1:12345"}
destinations: {pyroscope: [{url: "http://127.0.0.1:4040"}]}
YAML
    # A process that takes so little of the machine may be sampled for the first time, and have its own executable's
    # table built, in any minute of the steady state. It is asked for its page until it is in it itself.
    cat > /tmp/warm-up << 'SCRIPT'
for _ in $(seq 600); do
    wget -q -O /tmp/answer 'http://127.0.0.1:12345/api/v1/profile?process=kovar&frames=user&from=now-5m'
    grep -q '"module":"[^"]*/kovar"' /tmp/answer && exit
    sleep 0.1
done
exit 1
SCRIPT
    # How deep most of the samples of the spinning program are, by the page's answer.
    cat > /tmp/after << 'SCRIPT'
query="process=$1&frames=user&from=now-30s"
wget -q -O /tmp/answer "http://127.0.0.1:12345/api/v1/profile?$query"
sed -n 's/.*"nodes":\[\(\[[^a-z]*\]\)\].*/\1/p' /tmp/answer | sed 's/\],\[/\n/g' | tr -d '[]' | awk -F, '
    { depth[NR - 1] = $2 < 0 ? 0 : depth[$2] + 1; self[depth[NR - 1]] += $3 }
    END { for (d in self) if (self[d] > self[most]) most = d; print most + 0 }' > /tmp/frames
echo "KOVAR-VM measured $1-frames frames=$(cat /tmp/frames)"
SCRIPT
    profiler="kovar run --config /tmp/kovar.yaml"
    ;;
*)
    otlp-profiles-sink -listen 127.0.0.1:4317 > $log &
    # It takes so much that it is sampled in the first seconds.
    : > /tmp/warm-up
    cat > /tmp/after << 'SCRIPT'
echo "KOVAR-VM measured $1-frames $(grep '^frames=' /tmp/sink.log | tail -n 1)"
SCRIPT
    profiler="otel-profiler -disable-tls -collection-agent 127.0.0.1:4317 -reporter-interval 5s -samples-per-second 97"
    ;;
esac
sleep 2
# shellcheck disable=SC2086
if ! meter $log /tmp/warm-up /tmp/after "$pushes" $profiler; then
    tail -n 20 /tmp/profiler.log
fi
finish
