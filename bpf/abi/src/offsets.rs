//! Load-time facts: where fields lie in this kernel's structs, and what to sample.

/// Byte offsets from this kernel's BTF; Rust has no CO-RE, so user space reads them at load.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offsets {
    pub task_group_leader: u32,
    pub task_flags: u32,
    /// `start_time` (CLOCK_MONOTONIC), the same clock since before 5.10.
    pub task_start_time: u32,
    pub task_self_exec_id: u32,
    pub task_comm: u32,
    pub task_mm: u32,
    pub task_cgroups: u32,
    /// `css_set.subsys[perf_event_cgrp_id]`: the array's offset plus 8 bytes an index.
    pub css_set_perf_event: u32,
    pub css_cgroup: u32,
    pub cgroup_kn: u32,
    pub kernfs_id: u32,
    pub kernfs_name: u32,
    /// `parent`, or `__parent` since 6.15.
    pub kernfs_parent: u32,
    /// Keeps the size a multiple of 8.
    pub reserved: u32,
}

/// What to sample.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// 1 to take kernel stacks.
    pub kernel: u32,
    /// 1 to take user stacks.
    pub user: u32,
    /// PF_* bits of tasks that never run user code: kernel threads, io workers, user workers.
    pub no_user_stack_flags: u32,
    /// 1 when cgroup facts are complete; 0 leaves the cgroup id 0.
    pub cgroup: u32,
    /// Bytes in the ring buffer from which on the reader is woken.
    pub wakeup_bytes: u64,
}

const _: () = assert!(size_of::<Offsets>() == 56);
const _: () = assert!(size_of::<Settings>() == 24);

#[cfg(feature = "user")]
// SAFETY: repr(C), integers only, no padding: the size is asserted above.
unsafe impl aya::Pod for Offsets {}
#[cfg(feature = "user")]
// SAFETY: repr(C), integers only, no padding: the size is asserted above.
unsafe impl aya::Pod for Settings {}
