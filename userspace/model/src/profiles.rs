//! What the profiler delivers: one pprof per process group and interval.

use crate::{Resource, pprof};

/// The `__name__` label of whole-machine CPU profiles, as Pyroscope's own agents send it.
pub const PROFILE_NAME_CPU: &str = "process_cpu";

/// Everything sampled in one interval.
#[derive(Debug, Clone, Default)]
pub struct ProfileBatch {
    /// Wall clock, nanoseconds since the epoch.
    pub start_unix_ns: u64,
    /// Wall clock, nanoseconds since the epoch; exclusive.
    pub end_unix_ns: u64,
    pub profiles: Vec<ProcessProfile>,
}

/// The samples of one (container, process name) in one interval.
#[derive(Debug, Clone, Default)]
pub struct ProcessProfile {
    pub resource: Resource,
    /// Ticks in this profile; each is worth `profile.period` nanoseconds.
    pub samples: u64,
    /// cpu/nanoseconds; each sample carries the labels `pid` (number) and `thread` where known.
    pub profile: pprof::Profile,
}
