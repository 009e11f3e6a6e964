//! What the kernel programs count, summed over CPUs.

use std::os::fd::{AsRawFd, OwnedFd};

use abi::{COUNTER_COUNT, Counter};
use aya::Ebpf;
use aya::maps::Map;
use libbpf_rs::libbpf_sys;

use super::{descriptor, missing, take};
use crate::Error;

const NAME: &str = "COUNTERS";

/// The map of counters: one entry that holds all of them, for each possible CPU. Read without aya, which looks up
/// the number of CPUs in sysfs each time.
#[derive(Debug)]
pub(super) struct Counters {
    map: OwnedFd,
    /// Of each CPU, one after the other.
    values: Vec<[u64; COUNTER_COUNT as usize]>,
}

impl Counters {
    pub(super) fn take(bpf: &mut Ebpf) -> Result<Self, Error> {
        let Map::PerCpuArray(data) = take(bpf, NAME)? else {
            return Err(missing(NAME));
        };
        let cpus = libbpf_rs::num_possible_cpus()
            .map_err(|error| Error::Kernel(format!("the number of possible CPUs: {error}")))?;
        Ok(Self { map: descriptor(&data)?, values: vec![[0; COUNTER_COUNT as usize]; cpus] })
    }

    /// All of them; what they were at the last look when the kernel does not tell.
    pub(super) fn read(&mut self) -> [u64; COUNTER_COUNT as usize] {
        let key = 0u32;
        // SAFETY: a key of the map's size, and room for one value of each possible CPU, each of a multiple of 8 bytes.
        unsafe {
            libbpf_sys::bpf_map_lookup_elem(
                self.map.as_raw_fd(),
                (&raw const key).cast(),
                self.values.as_mut_ptr().cast(),
            )
        };
        Counter::ALL.map(|counter| self.values.iter().map(|values| values[counter as usize]).sum())
    }
}
