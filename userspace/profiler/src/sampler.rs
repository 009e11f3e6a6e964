//! The kernel half, loaded: programs, maps, and the exchange with them.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use abi::{COUNTER_COUNT, Program, RAW_STACK_BYTES_MAX, RawEvent, Settings, StackKey};
use aya::maps::{HashMap, MapData, ProgramArray, RingBuf};
use aya::programs::{PerfEvent, ProgramFd};
use aya::{Ebpf, EbpfLoader};

use crate::event::{self, Event};
use crate::{Config, Error, btf, host};

mod counters;
mod counts;
mod map_bytes;
mod memory;
// The program of the test, and the registers it looks at, are of x86-64.
#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests;

use counters::Counters;
use counts::Counts;
pub(crate) use memory::Memory;

/// A drain follows the last within 2 s, a late one within 4: room for that many seconds of new stacks.
const COUNTS_SECONDS: u32 = 4;
const COUNTS_ENTRIES_MIN: u32 = 512;
const COUNTS_ENTRIES_MAX: u32 = 131_072;
/// Stacks known to be sent, by entries of a count map; a busy machine's stacks of some minutes.
const STACKS_SENT_PER_COUNT: u32 = 4;
const STACKS_SENT_ENTRIES_MIN: u32 = 16_384;
/// Room for raw samples of all CPUs, which come while a process's tables are built: of a fifth of a second. A machine
/// without idle time gives the reader its turn late.
const RING_MS: u64 = 200;
const RING_BYTES_MIN: u32 = 2 << 20;
const RING_BYTES_MAX: u32 = 32 << 20;
/// The program that the clock enters.
const ENTRY: &str = "sampler";
/// The map of chunks, under whose name their memory is accounted.
const PAGES: &str = "PAGES";

/// Loaded programs and maps. Dropping it unloads them.
pub(crate) struct Sampler {
    bpf: Ebpf,
    events: RingBuf<MapData>,
    counters: Counters,
    counts: Counts,
    stacks_sent: HashMap<MapData, StackKey, u32>,
    cgroups_sent: HashMap<MapData, u64, u32>,
    /// Holds the programs that are entered from others.
    _programs: ProgramArray<MapData>,
    map_bytes: BTreeMap<String, u64>,
    /// Of the chunks that were added.
    chunk_bytes: Arc<AtomicU64>,
    /// Why samples carry no cgroup, if so.
    pub(crate) cgroup_missing: Option<String>,
    /// Why user stacks are walked by frame pointers although tables were asked for, if so.
    pub(crate) unwind_missing: Option<String>,
    /// Why layouts are not checked at each sample, if so.
    pub(crate) exec_pages_missing: Option<String>,
}

impl std::fmt::Debug for Sampler {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Sampler").field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl Sampler {
    /// Reads the kernel's layout, loads the programs. With `unwind` user stacks are unwound by the tables and
    /// layouts in [`Memory`], without it the kernel walks them by frame pointers.
    pub(crate) fn load(config: &Config, unwind: bool) -> Result<(Self, Memory), Error> {
        let facts = btf::read()?;
        let cpus = libbpf_rs::num_possible_cpus().map_or(1, |cpus| cpus as u32);
        let counts_entries = (cpus * config.rate_hz * COUNTS_SECONDS)
            .next_power_of_two()
            .clamp(COUNTS_ENTRIES_MIN, COUNTS_ENTRIES_MAX);
        let stacks_sent_entries = (counts_entries * STACKS_SENT_PER_COUNT).max(STACKS_SENT_ENTRIES_MIN);
        let ring_bytes = ring_bytes(cpus, config.rate_hz);
        let settings = settings(config, unwind, &facts, ring_bytes);
        host::raise_memlock_limit();
        let mut loader = EbpfLoader::new();
        loader
            .btf(None) // no relocations: offsets are globals, and parsing the kernel's types twice costs 50 ms
            .override_global("OFFSETS", &facts.offsets, true)
            .override_global("SETTINGS", &settings, true)
            .map_max_entries("COUNTS_0", counts_entries)
            .map_max_entries("COUNTS_1", counts_entries)
            .map_max_entries("STACKS_SENT", stacks_sent_entries)
            .map_max_entries("EVENTS", ring_bytes);
        let mut bpf = loader.load(bytecode::SAMPLER).map_err(host::load_error)?;
        program(&mut bpf, ENTRY)?.load().map_err(host::program_error)?;
        let programs = link(&mut bpf)?;
        let chunk_bytes = Arc::new(AtomicU64::new(0));
        let memory = Memory::take(&mut bpf, Arc::clone(&chunk_bytes))?;
        let sampler = Self {
            events: RingBuf::try_from(take(&mut bpf, "EVENTS")?).map_err(map_error)?,
            counters: Counters::take(&mut bpf)?,
            counts: Counts::take(&mut bpf)?,
            cgroups_sent: HashMap::try_from(take(&mut bpf, "CGROUPS_SENT")?).map_err(map_error)?,
            stacks_sent: HashMap::try_from(take(&mut bpf, "STACKS_SENT")?).map_err(map_error)?,
            _programs: programs,
            bpf,
            map_bytes: map_bytes::by_name(u64::from(ring_bytes)),
            chunk_bytes,
            cgroup_missing: facts.cgroup_missing,
            unwind_missing: facts.registers_missing.filter(|_| unwind),
            exec_pages_missing: facts.exec_pages_missing.filter(|_| unwind),
        };
        Ok((sampler, memory))
    }

    /// The program to attach to the clock.
    pub(crate) fn program(&self) -> Result<BorrowedFd<'_>, Error> {
        let program = self.bpf.program(ENTRY).ok_or_else(|| missing(ENTRY))?;
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
        self.counts.switch()
    }

    /// Takes all counts out of the map that is not active.
    pub(crate) fn drain(&mut self, handle: impl FnMut(StackKey, u64)) -> Result<(), Error> {
        self.counts.drain(handle)
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

    /// Memory of the maps by name, as the kernel accounts it in fdinfo.
    pub(crate) fn map_bytes(&self) -> BTreeMap<String, u64> {
        let mut maps = self.map_bytes.clone();
        *maps.entry(PAGES.to_owned()).or_default() += self.chunk_bytes.load(Ordering::Relaxed);
        maps
    }

    /// All counters, summed over CPUs.
    pub(crate) fn counters(&mut self) -> [u64; COUNTER_COUNT as usize] {
        self.counters.read()
    }
}

/// A power of two, as a ring buffer's size must be.
fn ring_bytes(cpus: u32, rate_hz: u32) -> u32 {
    let raw_bytes = (size_of::<RawEvent>() + RAW_STACK_BYTES_MAX) as u64;
    let bytes = u64::from(cpus) * u64::from(rate_hz) * raw_bytes * RING_MS / 1000;
    bytes.next_power_of_two().clamp(RING_BYTES_MIN.into(), RING_BYTES_MAX.into()) as u32
}

fn settings(config: &Config, unwind: bool, facts: &btf::Facts, ring_bytes: u32) -> Settings {
    Settings {
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
        unwind: (unwind && facts.registers_missing.is_none()).into(),
        has_task_pt_regs: facts.has_task_pt_regs.into(),
        checks_exec_pages: facts.exec_pages_missing.is_none().into(),
    }
}

/// Loads the programs that others enter, and puts them where they are found.
fn link(bpf: &mut Ebpf) -> Result<ProgramArray<MapData>, Error> {
    let mut programs = ProgramArray::try_from(take(bpf, "PROGRAMS")?).map_err(map_error)?;
    for entered in Program::ALL {
        let program = program(bpf, entered.name())?;
        program.load().map_err(host::program_error)?;
        let fd: &ProgramFd = program.fd().map_err(host::program_error)?;
        programs.set(entered as u32, fd, 0).map_err(map_error)?;
    }
    Ok(programs)
}

fn program<'a>(bpf: &'a mut Ebpf, name: &str) -> Result<&'a mut PerfEvent, Error> {
    bpf.program_mut(name).ok_or_else(|| missing(name))?.try_into().map_err(host::program_error)
}

fn take(bpf: &mut Ebpf, name: &str) -> Result<aya::maps::Map, Error> {
    bpf.take_map(name).ok_or_else(|| missing(name))
}

fn descriptor(map: &MapData) -> Result<OwnedFd, Error> {
    let duplicate = map.fd().as_fd().try_clone_to_owned();
    duplicate.map_err(|source| Error::System { what: "duplicate a map's descriptor".into(), source })
}

fn missing(name: &str) -> Error {
    Error::Kernel(format!("the embedded kernel object has no {name}: this build of kovar is broken"))
}

fn map_error(error: aya::maps::MapError) -> Error {
    Error::Kernel(format!("a map of the sampler: {error}"))
}
