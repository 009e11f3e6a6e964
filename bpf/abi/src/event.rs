//! What the kernel programs send by ring buffer: a stack's frames or a cgroup's path, each once at first sight.

use crate::{COMM_BYTES, KERNEL_FRAMES_MAX, Registers};

/// `kind` of a [`StackEvent`].
pub const EVENT_STACK: u32 = 1;
/// `kind` of a [`CgroupEvent`].
pub const EVENT_CGROUP: u32 = 2;
/// `kind` of a [`RawEvent`].
pub const EVENT_RAW: u32 = 3;
/// Bytes of a thread's stack that a [`RawEvent`] carries, from the stack pointer upwards.
pub const RAW_STACK_BYTES_MAX: usize = 24 << 10;
/// Levels of a cgroup path that are sent, the leaf first.
pub const CGROUP_LEVELS_MAX: usize = 16;
/// Bytes of one level's name, its NUL included; runtimes' scope names need at most 90.
pub const CGROUP_NAME_BYTES_MAX: usize = 128;
/// Value of [`CgroupEvent::levels`] bit 31: the path has more levels than were sent.
pub const CGROUP_RUNS_DEEPER: u32 = 1 << 31;

/// Header of a stack; `kernel_frames` addresses, then `user_frames` frames follow it (u64, leaf first).
/// A kernel frame is an address as the kernel's walk gives it, a return address from the second on. A user
/// frame is [`crate::file_frame`] or an address, of the call and not of the return.
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
    /// One of [`crate::End`]: why the user half ends where it does.
    pub end: u32,
    /// CLOCK_MONOTONIC start of the group leader, nanoseconds.
    pub start_time_ns: u64,
    /// `kernfs_node.id` of the cgroup that the perf_event controller sees.
    pub cgroup_id: u64,
    pub kernel_frames: u32,
    pub user_frames: u32,
    /// Name of the group leader, NUL-terminated.
    pub comm: [u8; COMM_BYTES],
}

/// One sample that the kernel could not unwind: the thread's registers and the top of its stack. It is counted
/// by nobody but its receiver. `stack_bytes` bytes from the stack pointer upwards follow it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawEvent {
    /// `kind` is [`EVENT_RAW`]; `hash` and `user_frames` are 0, `end` is why it could not be unwound.
    pub stack: StackEvent,
    /// CLOCK_MONOTONIC of the sample, nanoseconds.
    pub time_ns: u64,
    /// `mm->start_stack`, where the process's first stack began; 0 when it is not known.
    pub stack_start: u64,
    pub stack_bytes: u32,
    pub reserved: u32,
    pub registers: Registers,
    /// Leaf first, as many as `stack.kernel_frames`.
    pub kernel: [u64; KERNEL_FRAMES_MAX + 1],
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
const _: () = assert!(size_of::<RawEvent>() == 72 + 24 + 264 + 1024);
const _: () = assert!(size_of::<CgroupEvent>() == 16 + CGROUP_LEVELS_MAX * CGROUP_NAME_BYTES_MAX);
