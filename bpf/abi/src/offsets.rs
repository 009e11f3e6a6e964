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
    pub task_cgroups: u32,
    /// `css_set.subsys[perf_event_cgrp_id]`: the array's offset plus 8 bytes an index.
    pub css_set_perf_event: u32,
    /// `css_set.dfl_cgrp`: the cgroup in the v2 hierarchy.
    pub css_set_dfl_cgrp: u32,
    pub css_cgroup: u32,
    pub cgroup_kn: u32,
    pub kernfs_id: u32,
    pub kernfs_name: u32,
    /// `parent`, or `__parent` since 6.15.
    pub kernfs_parent: u32,
    pub task_thread_pid: u32,
    pub pid_level: u32,
    pub pid_numbers: u32,
    pub upid_nr: u32,
    pub upid_ns: u32,
    pub upid_bytes: u32,
    /// `pid_namespace.ns.inum`.
    pub pid_namespace_inum: u32,
    /// The byte that holds the bit `in_execve`.
    pub task_in_execve: u32,
    /// That bit in its byte; 0 when it is not known.
    pub in_execve_mask: u32,
    pub task_mm: u32,
    /// `mm_struct.exec_vm`, pages.
    pub mm_exec_vm: u32,
    /// `mm_struct.start_stack`; 0 when it is not known.
    pub mm_start_stack: u32,
    /// `task_struct.stack`, the lowest address of the kernel stack.
    pub task_stack: u32,
    /// Offset of `pt_regs` from there, where `bpf_task_pt_regs` does not exist (before 5.15).
    pub stack_pt_regs: u32,
}

/// `Settings::cgroup`: cgroup facts are missing, the cgroup id stays 0.
pub const CGROUP_NONE: u32 = 0;
/// `Settings::cgroup`: the v2 hierarchy names the container.
pub const CGROUP_V2: u32 = 1;
/// `Settings::cgroup`: perf_event has a v1 hierarchy of its own, which container runtimes then use.
pub const CGROUP_PERF_EVENT: u32 = 2;

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
    /// One of [`CGROUP_NONE`], [`CGROUP_V2`], [`CGROUP_PERF_EVENT`].
    pub cgroup: u32,
    /// Bytes in the ring buffer from which on the reader is woken.
    pub wakeup_bytes: u64,
    /// Inode number of user space's PID namespace when it is not the initial one, else 0.
    pub pid_namespace_inum: u32,
    /// 1 to unwind user stacks with tables; 0 leaves them to the kernel's own walk by frame pointers.
    pub unwind: u32,
    /// 1 when the helper `bpf_task_pt_regs` exists (since 5.15).
    pub has_task_pt_regs: u32,
    /// 1 to compare `mm->exec_vm` with the layout.
    pub checks_exec_pages: u32,
}

const _: () = assert!(size_of::<Offsets>() == 108);
const _: () = assert!(size_of::<Settings>() == 40);

#[cfg(feature = "user")]
// SAFETY: repr(C), integers only, no padding: the size is asserted above.
unsafe impl aya::Pod for Offsets {}
#[cfg(feature = "user")]
// SAFETY: repr(C), integers only, no padding: the size is asserted above.
unsafe impl aya::Pod for Settings {}
