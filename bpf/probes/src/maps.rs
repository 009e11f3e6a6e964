//! The maps: count maps, what user space has seen, tables and layouts, the ring buffer, counters, scratch.
//! User space sets the capacities at load, by the number of CPUs.

use abi::{
    CHUNK_PAGES, CHUNKS_MAX, COUNTER_COUNT, CgroupEvent, Control, Counter, EXECUTABLES_MAX, Executable,
    IMAGES_MAX, Image, PROGRAM_COUNT, Page, StackKey,
};
use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{self, ArrayOfMaps},
    macros::{btf_map, map},
    maps::{Array, HashMap, LruHashMap, PerCpuArray, ProgramArray, RingBuf},
};

use crate::{raw::RawScratch, scratch::Scratch};

/// Pages of one chunk, written by user space through its own mapping of them.
pub(crate) type Chunk = btf_maps::Array<Page, { CHUNK_PAGES as usize }, { BPF_F_MMAPABLE as usize }>;

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

/// Unwind tables and layouts.
#[btf_map]
pub(crate) static PAGES: ArrayOfMaps<Chunk, { CHUNKS_MAX as usize }> = ArrayOfMaps::new();

/// Executables by slot.
#[map]
pub(crate) static EXECUTABLES: Array<Executable> = Array::with_max_entries(EXECUTABLES_MAX, 0);

/// Layouts of process images, by [`abi::image_key`].
#[map]
pub(crate) static IMAGES: HashMap<u64, Image> = HashMap::with_max_entries(IMAGES_MAX, 0);

/// By [`abi::Program`].
#[map]
pub(crate) static PROGRAMS: ProgramArray = ProgramArray::with_max_entries(PROGRAM_COUNT, 0);

#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 21, 0);

#[map]
pub(crate) static CONTROL: Array<Control> = Array::with_max_entries(1, 0);

/// All in one entry, so that user space reads them with one call.
#[map]
pub(crate) static COUNTERS: PerCpuArray<[u64; COUNTER_COUNT as usize]> = PerCpuArray::with_max_entries(1, 0);

#[map]
pub(crate) static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

#[map]
pub(crate) static RAW_SCRATCH: PerCpuArray<RawScratch> = PerCpuArray::with_max_entries(1, 0);

#[map]
pub(crate) static CGROUP_SCRATCH: PerCpuArray<CgroupEvent> = PerCpuArray::with_max_entries(1, 0);

/// Adds one to this CPU's counter.
#[inline(always)]
pub(crate) fn count(counter: Counter) {
    if let Some(values) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: this CPU's own entry.
        unsafe { (*values)[counter as usize] += 1 };
    }
}
