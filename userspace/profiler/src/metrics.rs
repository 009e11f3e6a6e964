//! The profiler's own metrics.

use std::collections::BTreeMap;

use abi::{COUNTER_COUNT, Counter, End};
use model::Metric;
use symbolizer::Reason;

use crate::profiler::Ticks;
use crate::unwinding::TableMetrics;

/// What the metrics say, as numbers: they are noted often and shown rarely.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) counters: [u64; COUNTER_COUNT as usize],
    pub(crate) ticks: Ticks,
    pub(crate) cpus: usize,
    pub(crate) stacks: usize,
    pub(crate) stacks_evicted: u64,
    pub(crate) frames: usize,
    pub(crate) frames_dropped: u64,
    pub(crate) images: usize,
    pub(crate) cgroups: usize,
    pub(crate) cgroups_dropped: u64,
    pub(crate) executables: usize,
    pub(crate) executables_evicted: u64,
    pub(crate) executables_refused: u64,
    pub(crate) executables_unreadable: u64,
    pub(crate) executables_without_slot: u64,
    pub(crate) executables_open_slow: u64,
    pub(crate) executables_uncompared: u64,
    pub(crate) executables_found_through_mates: u64,
    /// Files, and looks for them.
    pub(crate) unopened_dropped: (u64, u64),
    /// Files.
    pub(crate) slow_left_out: u64,
    pub(crate) maps_read: u64,
    pub(crate) maps_unreadable: u64,
    /// Lives of processes.
    pub(crate) followed: usize,
    /// Lives, and mappings.
    pub(crate) dropped: (u64, u64),
    pub(crate) unchecked: u64,
    pub(crate) recorder_bytes: usize,
    pub(crate) records_read: u64,
    pub(crate) records_lost: u64,
    pub(crate) records_undecodable: u64,
    pub(crate) records_early: u64,
    pub(crate) images_not_waited_for: u64,
    pub(crate) tables: TableMetrics,
    pub(crate) raw_waiting: usize,
    pub(crate) raw_completed: u64,
    pub(crate) raw_crowded_out: u64,
    /// Samples of finished intervals whose user stack is not complete, by reason.
    pub(crate) incomplete: [u64; End::ALL.len()],
    pub(crate) undecodable: u64,
    pub(crate) early_pushes: u64,
    pub(crate) map_bytes: BTreeMap<String, u64>,
    pub(crate) symbolizer: symbolizer::Stats,
}

/// All of them.
pub(crate) fn collect(figures: &Figures) -> Vec<Metric> {
    let mut metrics = ticks(&figures.ticks);
    metrics.extend(Counter::ALL.into_iter().map(|counter| {
        let help = "Events that the kernel programs count.";
        Metric::counter("kovar_profiler_kernel_events_total", help, figures.counters[counter as usize])
            .with("event", counter.name())
    }));
    metrics.extend(End::ALL.iter().filter(|end| **end != End::Root).map(|end| {
        let help = "Samples whose user stack does not reach the thread's first frame, by reason.";
        let count = figures.incomplete[*end as usize];
        Metric::counter("kovar_profiler_samples_incomplete_total", help, count).with("reason", end.name())
    }));
    metrics.extend(tables(figures));
    metrics.extend(executables(figures));
    metrics.extend(figures.map_bytes.iter().map(|(map, bytes)| {
        let help = "Memory of each BPF map, as the kernel accounts it.";
        Metric::gauge("kovar_profiler_map_bytes", help, *bytes as f64).with("map", map.clone())
    }));
    metrics.extend(mappings(figures));
    metrics.extend(unwinding(figures));
    metrics.extend(layouts(&figures.tables));
    metrics.extend(symbols(figures));
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

fn tables(figures: &Figures) -> Vec<Metric> {
    let gauge = |name, help, value: usize| Metric::gauge(name, help, value as f64);
    vec![
        gauge("kovar_profiler_cpus", "CPUs that are sampled.", figures.cpus),
        gauge("kovar_profiler_stacks", "Distinct stacks known.", figures.stacks),
        gauge("kovar_profiler_frames", "Distinct frames known.", figures.frames),
        gauge("kovar_profiler_process_images", "Process images known.", figures.images),
        gauge("kovar_profiler_cgroups", "Cgroup paths known.", figures.cgroups),
        Metric::counter(
            "kovar_profiler_frames_dropped_total",
            "Frames shown as unknown because too many were known.",
            figures.frames_dropped,
        ),
        Metric::counter(
            "kovar_profiler_cgroups_dropped_total",
            "Cgroup paths that found no room.",
            figures.cgroups_dropped,
        ),
        Metric::counter("kovar_profiler_stacks_evicted_total", "Stacks let go.", figures.stacks_evicted),
        Metric::counter(
            "kovar_profiler_early_pushes_total",
            "Intervals that ended early because too many stacks were known.",
            figures.early_pushes,
        ),
        Metric::counter(
            "kovar_profiler_events_undecodable_total",
            "Records of the ring buffer that were none of ours.",
            figures.undecodable,
        ),
    ]
}

/// Mapped files.
fn executables(figures: &Figures) -> Vec<Metric> {
    let (files_evicted, looks_left_out) = figures.unopened_dropped;
    vec![
        Metric::gauge(
            "kovar_profiler_executables",
            "Executable files held open.",
            figures.executables as f64,
        ),
        Metric::counter(
            "kovar_profiler_executables_evicted_total",
            "Executable files that no process maps, closed because too many were open.",
            figures.executables_evicted,
        ),
        Metric::counter(
            "kovar_profiler_executables_refused_total",
            "Times a mapped file was not opened because too many are open that processes map.",
            figures.executables_refused,
        ),
        Metric::counter(
            "kovar_profiler_executables_unreadable_total",
            "Times a mapped file could not be opened.",
            figures.executables_unreadable,
        ),
        Metric::counter(
            "kovar_profiler_executables_without_slot_total",
            "Mapped files that found no room among those that are unwound.",
            figures.executables_without_slot,
        ),
        Metric::counter(
            "kovar_profiler_executables_open_slow_total",
            "Times a mapped file did not answer in time, or was not asked because too many do not.",
            figures.executables_open_slow,
        ),
        Metric::counter(
            "kovar_profiler_executables_slow_left_out_total",
            "Mapped files that did not answer in time and were not tried again because too many were.",
            figures.slow_left_out,
        ),
        Metric::counter(
            "kovar_profiler_executables_uncompared_total",
            "Files with the build id of another that were not compared with it because that was too much.",
            figures.executables_uncompared,
        ),
        Metric::counter(
            "kovar_profiler_executables_found_through_cgroup_total",
            "Files of dead processes that were opened through another process of their cgroup.",
            figures.executables_found_through_mates,
        ),
        Metric::counter(
            "kovar_profiler_executables_unopened_evicted_total",
            "Files that are not looked for any more because too many could not be opened.",
            files_evicted,
        ),
        Metric::counter(
            "kovar_profiler_executables_looks_left_out_total",
            "Times such a file was not looked for because too many were within a second.",
            looks_left_out,
        ),
    ]
}

/// Mapping records and what is known from them.
fn mappings(figures: &Figures) -> Vec<Metric> {
    let (lives_evicted, mappings_dropped) = figures.dropped;
    let total = |name, help, value| Metric::counter(name, help, value);
    vec![
        Metric::counter(
            "kovar_profiler_mappings_read_total",
            "Times a process's mappings were read from /proc.",
            figures.maps_read,
        ),
        Metric::counter(
            "kovar_profiler_mappings_unreadable_total",
            "Times they could not be read.",
            figures.maps_unreadable,
        ),
        Metric::gauge(
            "kovar_profiler_processes_followed",
            "Lives of processes whose mappings are followed.",
            figures.followed as f64,
        ),
        Metric::gauge(
            "kovar_profiler_mapping_ring_bytes",
            "Memory of the rings that mapping records come by.",
            figures.recorder_bytes as f64,
        ),
        total("kovar_profiler_mapping_records_total", "Mapping records read.", figures.records_read),
        total(
            "kovar_profiler_mapping_records_lost_total",
            "Mapping records that found no room: mappings are then read from /proc.",
            figures.records_lost,
        ),
        total(
            "kovar_profiler_mapping_records_undecodable_total",
            "Mapping records that contradict themselves.",
            figures.records_undecodable,
        ),
        total(
            "kovar_profiler_mapping_records_early_total",
            "Mapping records applied before older ones could come, because too many waited.",
            figures.records_early,
        ),
        total(
            "kovar_profiler_images_not_waited_for_total",
            "Process images that did not wait for records or for /proc because too many did.",
            figures.images_not_waited_for,
        ),
        total(
            "kovar_profiler_processes_evicted_total",
            "Lives of processes let go because too many were followed.",
            lives_evicted,
        ),
        total(
            "kovar_profiler_mappings_dropped_total",
            "Mappings that found no room in their process.",
            mappings_dropped,
        ),
        total(
            "kovar_profiler_layouts_unchecked_total",
            "Images whose executable pages the kernel counts otherwise, so that dlclose is not noticed.",
            figures.unchecked,
        ),
    ]
}

/// Unwind tables and raw samples.
fn unwinding(figures: &Figures) -> Vec<Metric> {
    let tables = &figures.tables;
    let total = |name, help, value| Metric::counter(name, help, value);
    let gauge = |name, help, value: usize| Metric::gauge(name, help, value as f64);
    let pages_help = "Memory of unwind pages, by what they hold.";
    let bytes = |kind: &'static str, value: u64| {
        Metric::gauge("kovar_profiler_unwind_page_bytes", pages_help, value as f64).with("holds", kind)
    };
    let executables_help = "Executables sampled, by the state of their unwind table.";
    let executables = |kind: &'static str, count: usize| {
        Metric::gauge("kovar_profiler_unwind_tables", executables_help, count as f64).with("state", kind)
    };
    let mut metrics = vec![
        bytes("tables", tables.table_bytes),
        bytes("layouts", tables.layout_bytes),
        bytes("quarantine", tables.quarantine_bytes),
        bytes("nothing", tables.free_bytes),
        executables("ready", tables.ready),
        executables("pending", tables.pending),
        executables("evicted", tables.evicted),
        executables("unreadable", tables.unreadable),
        gauge("kovar_profiler_unwind_builds_queued", "Files that wait to be read.", tables.queued),
        gauge("kovar_profiler_unwind_builds_waiting", "Tables that wait for pages.", tables.waiting),
        gauge("kovar_profiler_raw_samples_waiting", "Samples that wait to be unwound.", figures.raw_waiting),
        total("kovar_profiler_raw_samples_total", "Samples unwound in user space.", figures.raw_completed),
        total(
            "kovar_profiler_raw_samples_crowded_out_total",
            "Samples unwound before their tables were there because too many waited.",
            figures.raw_crowded_out,
        ),
        total("kovar_profiler_unwind_evictions_total", "Unwind tables evicted.", tables.evictions),
        total(
            "kovar_profiler_unwind_without_room_total",
            "Times a table found no room because all others were in use.",
            tables.without_room,
        ),
        total("kovar_profiler_unwind_too_large_total", "Tables larger than the budget.", tables.too_large),
        total("kovar_profiler_unwind_builds_total", "Files read for their unwind table.", tables.builds),
        total("kovar_profiler_unwind_queue_full_total", "Files that found no room.", tables.queue_full),
        total(
            "kovar_profiler_unwind_chunks_refused_total",
            "Times the kernel gave no memory for pages.",
            tables.chunks_refused,
        ),
        total(
            "kovar_profiler_unwind_tables_incomplete_total",
            "Tables of files that were not read to the end, or not in every part.",
            tables.incomplete,
        ),
    ];
    metrics.extend(tables.builds_failed.iter().map(|(reason, count)| {
        let help = "Files without an unwind table, by reason.";
        Metric::counter("kovar_profiler_unwind_builds_failed_total", help, *count).with("reason", *reason)
    }));
    metrics
}

fn layouts(tables: &TableMetrics) -> Vec<Metric> {
    let total = |name, help, value| Metric::counter(name, help, value);
    vec![
        Metric::gauge(
            "kovar_profiler_layout_images",
            "Process images whose layout the kernel has.",
            tables.images as f64,
        ),
        total("kovar_profiler_layouts_written_total", "Layouts written.", tables.layouts_written),
        total(
            "kovar_profiler_layouts_shared_total",
            "Images that took another's layout.",
            tables.layouts_shared,
        ),
        total(
            "kovar_profiler_layouts_without_room_total",
            "Layouts that found no room.",
            tables.layouts_without_room,
        ),
        total("kovar_profiler_layouts_cut_total", "Layouts with too many mappings.", tables.layouts_cut),
        total("kovar_profiler_layout_images_evicted_total", "Layouts let go.", tables.images_evicted),
        total(
            "kovar_profiler_images_given_up_total",
            "Process images whose mappings cannot be known: their stacks follow frame pointers.",
            tables.images_given_up,
        ),
    ]
}

fn symbols(figures: &Figures) -> Vec<Metric> {
    let stats = &figures.symbolizer;
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
