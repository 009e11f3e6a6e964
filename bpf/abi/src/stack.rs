//! The key under which identical stacks are counted, and the capacities of a stack.

/// `kernel.perf_event_max_stack` by default; `bpf_get_stack` gives no more (kernel/bpf/stackmap.c).
pub const KERNEL_FRAMES_MAX: usize = 127;
/// Frames of the user half; one less than a power of two, so that the verifier gets its bound by a mask.
pub const USER_FRAMES_MAX: usize = 1023;
/// `TASK_COMM_LEN` of include/linux/sched.h.
pub const COMM_BYTES: usize = 16;

/// Key of the count maps and of the map of stacks whose frames user space has.
/// Two stacks of different processes never share a key; within one process two stacks that differ
/// share `hash` with probability 2^-64.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StackKey {
    /// Over start time, cgroup id and every frame address.
    pub hash: u64,
    /// Process id in the initial PID namespace.
    pub tgid: u32,
    /// Low half of `task_struct.self_exec_id` of the group leader: grows with each execve.
    pub exec_id: u32,
}

/// The one value of the control map, written by user space.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control {
    /// Which of the two count maps is written now: 0 or 1.
    pub active: u32,
    /// Keeps the size a multiple of 8.
    pub reserved: u32,
}

const _: () = assert!(size_of::<StackKey>() == 16);
const _: () = assert!(size_of::<Control>() == 8);

#[cfg(feature = "user")]
// SAFETY: repr(C), integers only, no padding: the size is asserted above.
unsafe impl aya::Pod for StackKey {}
#[cfg(feature = "user")]
// SAFETY: repr(C), integers only, no padding: the size is asserted above.
unsafe impl aya::Pod for Control {}
