//! What the profiler is asked to do. Defaults and documentation of the settings stand in the agent's configuration.

/// Checked settings of the profiler.
#[derive(Debug, Clone)]
pub struct Config {
    /// Samples per second on each CPU.
    pub rate_hz: u32,
    /// Sample kernel stacks.
    pub kernel: bool,
    /// Sample user stacks.
    pub user: bool,
    /// How often counts leave the kernel.
    pub drain_interval_ms: u64,
    /// How often profiles are pushed.
    pub push_interval_ms: u64,
    /// Kernel memory that unwind tables and mappings may take; rounded up to 1 MiB.
    pub tables_max_bytes: u64,
    /// Which processes are kept.
    pub only: Only,
}

/// Restricts a profile to a process or a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Only {
    Everything,
    /// A process id as this process sees it.
    Pid(u32),
    /// A container id or a prefix of one of at least 8 characters.
    Container(String),
}
