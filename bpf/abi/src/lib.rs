//! Every struct, capacity and counter that crosses the kernel border, once.
//! No `bool`, no implicit padding: the sizes are asserted below, and each type is plain bytes.
#![cfg_attr(not(feature = "user"), no_std)]

mod counter;
mod event;
mod offsets;
mod stack;

pub use counter::{COUNTER_COUNT, Counter};
pub use event::{
    CGROUP_LEVELS_MAX, CGROUP_NAME_BYTES_MAX, CGROUP_RUNS_DEEPER, CgroupEvent, EVENT_CGROUP, EVENT_STACK,
    StackEvent,
};
pub use offsets::{CGROUP_NONE, CGROUP_PERF_EVENT, CGROUP_V2, Offsets, Settings};
pub use stack::{COMM_BYTES, Control, KERNEL_FRAMES_MAX, StackKey, USER_FRAMES_MAX};
