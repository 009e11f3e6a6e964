//! What the kernel programs send by ring buffer: a stack's frames or a cgroup's path, each once at first sight.

use crate::COMM_BYTES;

/// `kind` of a [`StackEvent`].
pub const EVENT_STACK: u32 = 1;
/// `kind` of a [`CgroupEvent`].
pub const EVENT_CGROUP: u32 = 2;
/// Levels of a cgroup path that are sent, the leaf first.
pub const CGROUP_LEVELS_MAX: usize = 16;
/// Bytes of one level's name, its NUL included; runtimes' scope names need at most 90.
pub const CGROUP_NAME_BYTES_MAX: usize = 128;
/// Value of [`CgroupEvent::levels`] bit 31: the path has more levels than were sent.
pub const CGROUP_RUNS_DEEPER: u32 = 1 << 31;

/// Header of a stack; `kernel_frames` then `user_frames` addresses (u64, leaf first) follow it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StackEvent {
    pub kind: u32,
    /// `task_struct.flags` (PF_*), include/linux/sched.h.
    pub task_flags: u32,
    pub hash: u64,
    pub tgid: u32,
    pub exec_id: u32,
    /// Process id as user space's own PID namespace numbers it; 0 for a process that it cannot see.
    pub visible_tgid: u32,
    /// Keeps the size a multiple of 8.
    pub reserved: u32,
    /// CLOCK_MONOTONIC start of the group leader, nanoseconds.
    pub start_time_ns: u64,
    /// `kernfs_node.id` of the cgroup that the perf_event controller sees.
    pub cgroup_id: u64,
    pub kernel_frames: u32,
    pub user_frames: u32,
    /// Name of the group leader, NUL-terminated.
    pub comm: [u8; COMM_BYTES],
}

/// A cgroup's path, from the leaf upwards; the root itself has no name and is not sent.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CgroupEvent {
    pub kind: u32,
    /// How many of `names` are filled, and [`CGROUP_RUNS_DEEPER`].
    pub levels: u32,
    pub cgroup_id: u64,
    pub names: [[u8; CGROUP_NAME_BYTES_MAX]; CGROUP_LEVELS_MAX],
}

const _: () = assert!(size_of::<StackEvent>() == 72);
const _: () = assert!(size_of::<CgroupEvent>() == 16 + CGROUP_LEVELS_MAX * CGROUP_NAME_BYTES_MAX);
