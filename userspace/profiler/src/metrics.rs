//! The profiler's own metrics.

use abi::{COUNTER_COUNT, Counter};
use model::Metric;
use symbolizer::Reason;

use crate::frame::Frames;
use crate::interval::Cgroups;
use crate::process::Processes;
use crate::profiler::Ticks;
use crate::stack::Stacks;

/// What the metrics are read from.
pub(crate) struct State<'a> {
    pub(crate) counters: &'a [u64; COUNTER_COUNT as usize],
    pub(crate) ticks: &'a Ticks,
    pub(crate) cpus: usize,
    pub(crate) processes: &'a Processes,
    pub(crate) frames: &'a Frames,
    pub(crate) stacks: &'a Stacks,
    pub(crate) cgroups: &'a Cgroups,
    pub(crate) undecodable: u64,
    pub(crate) map_bytes: u64,
}

/// All of them.
pub(crate) fn collect(state: &State<'_>) -> Vec<Metric> {
    let mut metrics = ticks(state.ticks);
    metrics.extend(Counter::ALL.into_iter().map(|counter| {
        let help = "Events that the kernel programs count.";
        Metric::counter("kovar_profiler_kernel_events_total", help, state.counters[counter as usize])
            .with("event", counter.name())
    }));
    metrics.extend(tables(state));
    metrics.extend(symbols(state));
    metrics
}

fn ticks(ticks: &Ticks) -> Vec<Metric> {
    let total = |name, help, value| Metric::counter(name, help, value);
    let mut metrics = vec![
        total("kovar_profiler_ticks_total", "Ticks of the sampling clock by its own count.", ticks.counted),
        total("kovar_profiler_samples_delivered_total", "Samples that reached a profile.", ticks.delivered),
        total("kovar_profiler_ticks_idle_total", "Ticks on an idle CPU.", ticks.idle),
    ];
    metrics.extend(ticks.lost.iter().map(|(reason, count)| {
        total("kovar_profiler_samples_lost_total", "Samples that reached no profile, by reason.", *count)
            .with("reason", *reason)
    }));
    metrics
}

fn tables(state: &State<'_>) -> Vec<Metric> {
    let gauge = |name, help, value: usize| Metric::gauge(name, help, value as f64);
    let processes = state.processes;
    vec![
        gauge("kovar_profiler_cpus", "CPUs that are sampled.", state.cpus),
        gauge("kovar_profiler_map_bytes", "Memory of all BPF maps.", state.map_bytes as usize),
        gauge("kovar_profiler_stacks", "Distinct stacks known.", state.stacks.len()),
        gauge("kovar_profiler_frames", "Distinct frames known.", state.frames.len()),
        gauge("kovar_profiler_process_images", "Process images known.", processes.len()),
        gauge("kovar_profiler_cgroups", "Cgroup paths known.", state.cgroups.len()),
        gauge("kovar_profiler_executables", "Executable files held open.", processes.binaries().len()),
        Metric::counter(
            "kovar_profiler_frames_dropped_total",
            "Frames shown as unknown because too many were known.",
            state.frames.dropped,
        ),
        Metric::counter(
            "kovar_profiler_cgroups_dropped_total",
            "Cgroup paths that found no room.",
            state.cgroups.dropped,
        ),
        Metric::counter("kovar_profiler_stacks_evicted_total", "Stacks let go.", state.stacks.evicted),
        Metric::counter(
            "kovar_profiler_executables_evicted_total",
            "Executable files closed because too many were open.",
            processes.binaries().evicted,
        ),
        Metric::counter(
            "kovar_profiler_executables_unreadable_total",
            "Mapped files that could not be opened.",
            processes.binaries().unreadable,
        ),
        Metric::counter(
            "kovar_profiler_mappings_read_total",
            "Times a process's mappings were read from /proc.",
            processes.maps_read,
        ),
        Metric::counter(
            "kovar_profiler_mappings_unreadable_total",
            "Times they could not be read.",
            processes.maps_unreadable,
        ),
        Metric::counter(
            "kovar_profiler_user_stacks_cut_total",
            "User stacks that end at an address outside every known mapping: no frame pointers, or gone.",
            processes.stacks_cut,
        ),
        Metric::counter(
            "kovar_profiler_events_undecodable_total",
            "Records of the ring buffer that were none of ours.",
            state.undecodable,
        ),
    ]
}

fn symbols(state: &State<'_>) -> Vec<Metric> {
    let stats = state.frames.symbolizer().metrics();
    let mut metrics = vec![
        Metric::counter(
            "kovar_symbolizer_addresses_resolved_total",
            "Addresses that got a name.",
            stats.resolved,
        ),
        Metric::counter(
            "kovar_symbolizer_elf_opened_total",
            "ELF files opened for their symbols.",
            stats.elf_opened,
        ),
        Metric::counter(
            "kovar_symbolizer_queue_full_total",
            "Jobs that had to wait because the symbolizer was busy.",
            stats.queue_full,
        ),
        Metric::gauge(
            "kovar_symbolizer_thread_alive",
            "Whether the symbolizer's thread runs: 1 or 0.",
            stats.thread_alive_now as f64,
        ),
        Metric::gauge(
            "kovar_symbolizer_kallsyms_bytes",
            "Memory of the kernel's symbol table.",
            stats.kallsyms_bytes_now as f64,
        ),
        Metric::counter(
            "kovar_symbolizer_sigbus_survived_total",
            "Pages of truncated files read as zeros.",
            stats.sigbus_survived,
        ),
    ];
    metrics.extend(Reason::ALL.into_iter().map(|reason| {
        let help = "Addresses that got no name, by reason.";
        Metric::counter("kovar_symbolizer_addresses_unresolved_total", help, stats.unresolved[reason.index()])
            .with("reason", reason.name())
    }));
    metrics
}
