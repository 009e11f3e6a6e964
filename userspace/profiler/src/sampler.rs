//! The kernel half, loaded: programs, maps, and the exchange with them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use abi::{COUNTER_COUNT, Control, Counter, Settings, StackKey};
use aya::maps::{Array, HashMap, MapData, PerCpuArray, RingBuf};
use aya::programs::PerfEvent;
use aya::{Ebpf, EbpfLoader};
use libbpf_rs::libbpf_sys;

use crate::event::{self, Event};
use crate::{Config, Error, btf, host};

/// A drain follows the last within 2 s, a late one within 4: room for that many seconds of new stacks.
const COUNTS_SECONDS: u32 = 4;
const COUNTS_ENTRIES_MIN: u32 = 4096;
const COUNTS_ENTRIES_MAX: u32 = 131_072;
const RING_BYTES_PER_CPU: u32 = 128 * 1024;
const RING_BYTES_MIN: u32 = 1 << 20;
const RING_BYTES_MAX: u32 = 16 << 20;
/// Entries taken out of a count map by one system call.
const BATCH_ENTRIES: usize = 4096;

/// BPF_MAP_TYPE_RINGBUF of include/uapi/linux/bpf.h.
const MAP_TYPE_RINGBUF: u64 = 27;

/// Loaded programs and maps. Dropping it unloads them.
pub(crate) struct Sampler {
    bpf: Ebpf,
    events: RingBuf<MapData>,
    control: Array<MapData, Control>,
    counters: PerCpuArray<MapData, u64>,
    /// Drained in batches, which aya does not have.
    counts: [OwnedFd; 2],
    stacks_sent: HashMap<MapData, StackKey, u32>,
    cgroups_sent: HashMap<MapData, u64, u32>,
    active: usize,
    map_bytes: u64,
    /// Why samples carry no cgroup, if so.
    pub(crate) cgroup_missing: Option<String>,
}

impl std::fmt::Debug for Sampler {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Sampler").field("active", &self.active).finish_non_exhaustive()
    }
}

impl Sampler {
    /// Reads the kernel's layout, loads the programs.
    pub(crate) fn load(config: &Config) -> Result<Self, Error> {
        let facts = btf::read()?;
        let cpus = libbpf_rs::num_possible_cpus().map_or(1, |cpus| cpus as u32);
        let counts_entries = (cpus * config.rate_hz * COUNTS_SECONDS)
            .next_power_of_two()
            .clamp(COUNTS_ENTRIES_MIN, COUNTS_ENTRIES_MAX);
        let ring_bytes =
            (cpus * RING_BYTES_PER_CPU).next_power_of_two().clamp(RING_BYTES_MIN, RING_BYTES_MAX);
        let settings = Settings {
            kernel: config.kernel.into(),
            user: config.user.into(),
            no_user_stack_flags: host::no_user_stack_flags(),
            cgroup: if facts.cgroup_missing.is_none() { host::cgroup_hierarchy() } else { abi::CGROUP_NONE },
            wakeup_bytes: u64::from(ring_bytes / 4),
            pid_namespace_inum: match host::pid_namespace_inum() {
                0 => 0,
                inum if facts.pid_namespace_missing.is_none() => inum,
                // Ids that cannot be translated are not believed: this matches no namespace.
                _ => u32::MAX,
            },
            reserved: 0,
        };
        host::raise_memlock_limit();
        let mut loader = EbpfLoader::new();
        loader
            .btf(None) // no relocations: offsets are globals, and parsing the kernel's types twice costs 50 ms
            .override_global("OFFSETS", &facts.offsets, true)
            .override_global("SETTINGS", &settings, true)
            .map_max_entries("COUNTS_0", counts_entries)
            .map_max_entries("COUNTS_1", counts_entries)
            .map_max_entries("STACKS_SENT", counts_entries * 4)
            .map_max_entries("EVENTS", ring_bytes);
        let mut bpf = loader.load(bytecode::SAMPLER).map_err(host::load_error)?;
        let program: &mut PerfEvent = bpf
            .program_mut("sampler")
            .ok_or_else(|| missing("sampler"))?
            .try_into()
            .map_err(host::program_error)?;
        program.load().map_err(host::program_error)?;
        Ok(Self {
            events: RingBuf::try_from(take(&mut bpf, "EVENTS")?).map_err(map_error)?,
            control: Array::try_from(take(&mut bpf, "CONTROL")?).map_err(map_error)?,
            counters: PerCpuArray::try_from(take(&mut bpf, "COUNTERS")?).map_err(map_error)?,
            counts: [descriptor(take(&mut bpf, "COUNTS_0")?)?, descriptor(take(&mut bpf, "COUNTS_1")?)?],
            cgroups_sent: HashMap::try_from(take(&mut bpf, "CGROUPS_SENT")?).map_err(map_error)?,
            stacks_sent: HashMap::try_from(take(&mut bpf, "STACKS_SENT")?).map_err(map_error)?,
            bpf,
            active: 0,
            map_bytes: map_bytes(u64::from(ring_bytes)),
            cgroup_missing: facts.cgroup_missing,
        })
    }

    /// The program to attach to the clock.
    pub(crate) fn program(&self) -> Result<BorrowedFd<'_>, Error> {
        let program = self.bpf.program("sampler").ok_or_else(|| missing("sampler"))?;
        Ok(program.fd().map_err(host::program_error)?.as_fd())
    }

    /// Becomes readable when the kernel wants the ring buffer read.
    pub(crate) fn ring_fd(&self) -> RawFd {
        self.events.as_raw_fd()
    }

    /// Takes every record that is there; returns how many could not be decoded.
    pub(crate) fn read_events(&mut self, mut handle: impl FnMut(Event)) -> u64 {
        let mut undecodable = 0;
        while let Some(bytes) = self.events.next() {
            match event::decode(&bytes) {
                Some(event) => handle(event),
                None => undecodable += 1,
            }
        }
        undecodable
    }

    /// Makes the other count map the active one. The one written until now may be drained once
    /// programs that run at this moment have ended.
    pub(crate) fn switch(&mut self) -> Result<(), Error> {
        let next = self.active ^ 1;
        self.control.set(0, Control { active: next as u32, reserved: 0 }, 0).map_err(map_error)?;
        self.active = next;
        Ok(())
    }

    /// Takes all counts out of the map that is not active.
    pub(crate) fn drain(&mut self, mut handle: impl FnMut(StackKey, u64)) -> Result<(), Error> {
        let fd = self.counts[self.active ^ 1].as_raw_fd();
        let mut keys = vec![StackKey { hash: 0, tgid: 0, exec_id: 0 }; BATCH_ENTRIES];
        let mut values = vec![0u64; BATCH_ENTRIES];
        let mut position = 0u64;
        let mut started = false;
        loop {
            let mut count = BATCH_ENTRIES as u32;
            let from = if started { (&raw mut position).cast() } else { std::ptr::null_mut() };
            // SAFETY: the buffers hold BATCH_ENTRIES keys and values of the map's sizes; the position is
            // a hash map's u32 bucket number, with room to spare.
            let result = unsafe {
                libbpf_sys::bpf_map_lookup_and_delete_batch(
                    fd,
                    from,
                    (&raw mut position).cast(),
                    keys.as_mut_ptr().cast(),
                    values.as_mut_ptr().cast(),
                    &raw mut count,
                    std::ptr::null(),
                )
            };
            let error = (result < 0).then(io::Error::last_os_error);
            let at_end = error.as_ref().and_then(io::Error::raw_os_error) == Some(libc::ENOENT);
            if let Some(source) = error
                && !at_end
            {
                return Err(Error::System { what: "take counts out of the kernel".into(), source });
            }
            for (key, value) in keys.iter().zip(&values).take(count as usize) {
                handle(*key, *value);
            }
            if at_end {
                return Ok(());
            }
            started = true;
        }
    }

    /// The stack's frames are sent again when it is met again.
    pub(crate) fn forget(&mut self, key: &StackKey) {
        // Absent already, when the kernel evicted it itself.
        let _absent = self.stacks_sent.remove(key);
    }

    /// The cgroup's path is sent again when it is met again.
    pub(crate) fn forget_cgroup(&mut self, id: u64) {
        // Absent already, when the kernel evicted it itself.
        let _absent = self.cgroups_sent.remove(&id);
    }

    /// Memory of the maps as the kernel accounts it in fdinfo; a ring buffer counts from 6.12 on.
    pub(crate) fn map_bytes(&self) -> u64 {
        self.map_bytes
    }

    /// All counters, summed over CPUs.
    pub(crate) fn counters(&self) -> [u64; COUNTER_COUNT as usize] {
        let mut sums = [0; COUNTER_COUNT as usize];
        for counter in Counter::ALL {
            if let Ok(values) = self.counters.get(&(counter as u32), 0) {
                sums[counter as usize] = values.iter().sum();
            }
        }
        sums
    }
}

/// Maps do not grow after the load, so this is asked once.
fn map_bytes(ring_bytes: u64) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir("/proc/self/fdinfo").into_iter().flatten().flatten() {
        let info = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let value = |name: &str| -> Option<u64> {
            info.lines().find_map(|line| line.strip_prefix(name)).and_then(|value| value.trim().parse().ok())
        };
        let Some(kind) = value("map_type:") else {
            continue;
        };
        let memlock = value("memlock:").unwrap_or(0);
        bytes += if kind == MAP_TYPE_RINGBUF { memlock.max(ring_bytes) } else { memlock };
    }
    bytes
}

fn take(bpf: &mut Ebpf, name: &str) -> Result<aya::maps::Map, Error> {
    bpf.take_map(name).ok_or_else(|| missing(name))
}

fn descriptor(map: aya::maps::Map) -> Result<OwnedFd, Error> {
    let aya::maps::Map::HashMap(data) = map else {
        return Err(missing("count map"));
    };
    data.fd()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|source| Error::System { what: "duplicate a map's descriptor".into(), source })
}

fn missing(name: &str) -> Error {
    Error::Kernel(format!("the embedded kernel object has no {name}: this build of kovar is broken"))
}

fn map_error(error: aya::maps::MapError) -> Error {
    Error::Kernel(format!("a map of the sampler: {error}"))
}
