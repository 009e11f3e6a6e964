//! The symbolizer's settings.

use std::path::PathBuf;

const MIB: u64 = 1024 * 1024;

/// Limits and places; [`Config::default`] fits a node.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where `/proc` is mounted. Default `/proc`.
    pub proc: PathBuf,
    /// A file whose `.symtab`, `.dynsym` and their strings exceed this has no names. Reading symbols costs up
    /// to a third of it in anonymous memory while the file is open. Default 192 MiB.
    pub symbol_bytes_max: u64,
    /// A file without `.symtab` whose unpacked `.gnu_debugdata` exceeds this has no names: the reader cannot be
    /// told to leave it packed. All of it becomes anonymous memory while the file is open. Default 16 MiB.
    pub minidebug_bytes_max: u64,
    /// A file whose `.debug_*` sections exceed this is named from its symbols alone, without lines and
    /// inlined calls; 0 turns debug information off. Reading it costs, while the file is open, 0.6 times its
    /// size in anonymous memory for a hundred addresses all over the program and 1.3 times for thousands. Default 64 MiB.
    pub debug_bytes_max: u64,
    /// The same for the part of the `.debug_*` sections that is compressed in the file, by its unpacked size:
    /// all of it becomes anonymous memory while the file is open. Default 32 MiB.
    pub inflated_bytes_max: u64,
    /// Opened files are let go this long after the last work. Default 5000.
    pub cache_idle_ms: u64,
    /// Opened files are let go when one more than this many is needed. Default 16.
    pub open_executables_max: usize,
    /// Opened files are let go when one more would make a third of their symbols, all of their unpacked
    /// `.gnu_debugdata` and all of their debug information exceed this; a single file is limited by the settings above. Default 64 MiB.
    pub open_bytes_max: u64,
    /// Perf maps kept, in processes; the least recently used goes. Default 64.
    pub perf_map_processes_max: usize,
    /// Perf maps kept, in bytes of memory; the least recently used goes. Default 64 MiB.
    pub perf_map_bytes_max: u64,
    /// Jobs waiting for the thread, and answers waiting for the caller. Default 16.
    pub queue_jobs_max: usize,
    /// Addresses in one job. Default 65536.
    pub job_addresses_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            proc: PathBuf::from("/proc"),
            symbol_bytes_max: 192 * MIB,
            minidebug_bytes_max: 16 * MIB,
            debug_bytes_max: 64 * MIB,
            inflated_bytes_max: 32 * MIB,
            cache_idle_ms: 5_000,
            open_executables_max: 16,
            open_bytes_max: 64 * MIB,
            perf_map_processes_max: 64,
            perf_map_bytes_max: 64 * MIB,
            queue_jobs_max: 16,
            job_addresses_max: 65_536,
        }
    }
}
