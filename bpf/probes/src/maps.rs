//! The maps: two count maps, what user space has seen, the ring buffer, counters, scratch.
//! User space sets the capacities at load, by the number of CPUs.

use abi::{
    COUNTER_COUNT, CgroupEvent, Control, Counter, KERNEL_FRAMES_MAX, StackEvent, StackKey, USER_FRAMES_MAX,
};
use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};

/// Where one sample is put together.
#[repr(C)]
pub(crate) struct Scratch {
    pub(crate) event: StackEvent,
    pub(crate) frames: [u64; KERNEL_FRAMES_MAX + USER_FRAMES_MAX],
}

/// Counts by stack; never an LRU, which would lose counts silently.
#[map]
pub(crate) static COUNTS_0: HashMap<StackKey, u64> = HashMap::with_max_entries(4096, 0);

/// Written while user space drains the other.
#[map]
pub(crate) static COUNTS_1: HashMap<StackKey, u64> = HashMap::with_max_entries(4096, 0);

/// Stacks whose frames were sent; forgetting one only means that it is sent again.
#[map]
pub(crate) static STACKS_SENT: LruHashMap<StackKey, u32> = LruHashMap::with_max_entries(16384, 0);

/// Process images that were sent, by tgid and exec id: their first stack wakes the reader.
#[map]
pub(crate) static IMAGES_SENT: LruHashMap<u64, u64> = LruHashMap::with_max_entries(8192, 0);

/// Cgroups whose path was sent.
#[map]
pub(crate) static CGROUPS_SENT: LruHashMap<u64, u32> = LruHashMap::with_max_entries(4096, 0);

#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

#[map]
pub(crate) static CONTROL: Array<Control> = Array::with_max_entries(1, 0);

#[map]
pub(crate) static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_COUNT, 0);

#[map]
pub(crate) static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

#[map]
pub(crate) static CGROUP_SCRATCH: PerCpuArray<CgroupEvent> = PerCpuArray::with_max_entries(1, 0);

/// Adds one to this CPU's counter.
#[inline(always)]
pub(crate) fn count(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: this CPU's own slot.
        unsafe { *value += 1 };
    }
}
