//! What the symbolizer counts about itself.

use crate::query::{Reason, Resolved};

/// Counters since the start; fields ending in `_now` are gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub resolved: u64,
    /// By [`Reason::index`].
    pub unresolved: [u64; Reason::ALL.len()],
    /// 1 while the symbolizer's thread runs, 0 when it ended and nothing more will be named. A resolver on the
    /// caller's own thread leaves it 0.
    pub thread_alive_now: u64,
    /// Jobs refused because the queue was full or the job too large.
    pub queue_full: u64,
    /// ELF files mapped and read.
    pub elf_opened: u64,
    /// Times all mapped ELF files and what was read of them were let go.
    pub elf_released: u64,
    /// ELF files opened without their debug information because it is too large or refers to other files.
    pub debug_info_skipped: u64,
    /// ELF files whose debug information made the reader fail, so that only their symbols are used.
    pub debug_info_broken: u64,
    /// Names cut at the length limit.
    pub names_cut: u64,
    /// Pages of truncated files replaced with zeros, in the whole process.
    pub sigbus_survived: u64,
    pub kallsyms_loads: u64,
    pub kallsyms_bytes_now: u64,
    pub kallsyms_symbols_now: u64,
    /// Lines or symbols of kallsyms left out at a limit, at the last load.
    pub kallsyms_skipped_now: u64,
    pub perf_map_loads: u64,
    pub perf_map_bytes_now: u64,
    pub perf_map_processes_now: u64,
    /// Perf maps of which lines beyond the limit were left out.
    pub perf_maps_cut: u64,
    /// Perf maps put out of the cache to make room.
    pub perf_map_evictions: u64,
}

impl Stats {
    pub(crate) fn count(&mut self, resolved: &Resolved) {
        match resolved {
            Ok(_) => self.resolved += 1,
            Err(reason) => self.unresolved[reason.index()] += 1,
        }
    }
}
