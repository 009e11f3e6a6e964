//! Samples that the kernel could not unwind: kept until their mappings and tables are there, then unwound over
//! the copied stack by the same code.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use abi::{EXECUTABLE_PENDING, End, MAPPING_OPAQUE, Mapping, RAW_STACK_BYTES_MAX, USER_FRAMES_MAX};
use foldhash::HashMap;
use unwind::{Found, Space};

use crate::event::Raw;
use crate::interval::Cgroups;
use crate::process::{ImageKey, Knowledge, Processes};
use crate::unwinding::Tables;

/// Samples that may wait.
const WAITING_MAX: usize = 8192;
/// Bytes of their stacks: of two seconds of whole stacks on all CPUs, within these limits. So long may it take to build
/// a new process's tables.
const WAITING_SECONDS: usize = 2;
const WAITING_BYTES_MIN: usize = 16 << 20;
const WAITING_BYTES_MAX: usize = 64 << 20;
/// How long a sample waits for mappings.
const MAPPINGS_WAIT: Duration = Duration::from_secs(1);
/// How long a sample waits for tables: a large executable's are built in seconds.
const TABLES_WAIT: Duration = Duration::from_secs(20);

/// A sample with its user frames, as complete as they get.
#[derive(Debug)]
pub(crate) struct Completed {
    pub(crate) raw: Box<Raw>,
    /// As the kernel encodes them, leaf first.
    pub(crate) user: Vec<u64>,
    pub(crate) end: End,
}

/// All that wait.
#[derive(Debug, Default)]
pub(crate) struct RawSamples {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    bytes_max: usize,
    /// Samples given up early because too many waited.
    pub(crate) crowded_out: u64,
    /// Samples unwound in user space, to the root or not.
    pub(crate) completed: u64,
}

#[derive(Debug)]
struct Waiting {
    raw: Box<Raw>,
    since: Instant,
    /// The slot whose table it waits for; 0 while it waits for mappings.
    slot: u32,
    /// Its layout was out of date, and what to do about it is not decided yet.
    stale: bool,
}

/// A sample's user frames, as far as they are to be had now.
struct Walked {
    user: Vec<u64>,
    end: End,
    /// The executable without a table that the walk met.
    pending: Option<u32>,
}

/// The address space of a copied stack.
struct Copied<'a> {
    raw: &'a Raw,
    key: ImageKey,
    processes: &'a Processes,
    tables: &'a mut Tables,
    /// Address of the copy's first byte.
    sp: u64,
    /// The executable without a table that the walk met.
    pending: Option<u32>,
    /// Whether it met a mapping that shows nothing.
    met_opaque: bool,
}

impl RawSamples {
    /// For so many samples a second on each of so many CPUs.
    pub(crate) fn new(cpus: usize, rate_hz: u32) -> Self {
        let bytes = cpus * rate_hz as usize * WAITING_SECONDS * RAW_STACK_BYTES_MAX;
        Self { bytes_max: bytes.clamp(WAITING_BYTES_MIN, WAITING_BYTES_MAX), ..Self::default() }
    }

    /// Takes a sample in; with too many waiting, the oldest is what is known of it now.
    pub(crate) fn add(&mut self, raw: Box<Raw>, now: Instant) {
        self.bytes += raw.memory.len();
        let stale = raw.stack.end == End::LayoutStale;
        self.waiting.push_back(Waiting { raw, since: now, slot: 0, stale });
    }

    /// Whether some are younger than the mapping records that were applied: nothing announces those to come.
    pub(crate) fn waits_for_records(&self, applied_ns: u64) -> bool {
        self.waiting.iter().any(|waiting| waiting.raw.time_ns > applied_ns)
    }

    /// Images of those that wait.
    pub(crate) fn images(&self) -> impl Iterator<Item = ImageKey> {
        self.waiting.iter().map(|waiting| waiting.raw.stack.image_key())
    }

    /// Cgroups that they ran in.
    pub(crate) fn cgroups(&self) -> impl Iterator<Item = u64> {
        self.waiting.iter().map(|waiting| waiting.raw.stack.cgroup_id)
    }

    /// Samples that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Unwinds what can be unwound now. With `all`, nothing waits any longer. With too many waiting, those are given up
    /// first that wait for the table for which most memory waits: what waits for a small one has it soon.
    pub(crate) fn complete(
        &mut self,
        processes: &mut Processes,
        tables: &mut Tables,
        cgroups: &Cgroups,
        all: bool,
        mut done: impl FnMut(Completed),
    ) {
        let now = Instant::now();
        let mut turn = |raw: &mut Self, waiting: Waiting, crowded: bool| match advance(
            waiting,
            (&mut *processes, &mut *tables, cgroups),
            now,
            all || crowded,
        ) {
            Ok(completed) => {
                raw.crowded_out += u64::from(crowded && !all && completed.end.may_complete());
                raw.bytes -= completed.raw.memory.len();
                raw.completed += 1;
                done(completed);
            }
            Err(waiting) => raw.waiting.push_back(waiting),
        };
        let most = if self.is_crowded() {
            slot_of_most(self.waiting.iter().map(Waiting::slot_and_bytes))
        } else {
            None
        };
        for _ in 0..self.waiting.len() {
            let crowded = self.is_crowded();
            let Some(waiting) = self.waiting.pop_front() else { break };
            let crowded = crowded && most == Some(waiting.slot);
            turn(self, waiting, crowded);
        }
        while self.is_crowded()
            && let Some(waiting) = self.waiting.pop_front()
        {
            turn(self, waiting, true);
        }
    }

    fn is_crowded(&self) -> bool {
        self.waiting.len() > WAITING_MAX || self.bytes > self.bytes_max
    }
}

impl Waiting {
    fn slot_and_bytes(&self) -> (u32, usize) {
        (self.slot, self.raw.memory.len())
    }
}

/// The slot with most bytes.
fn slot_of_most(waiting: impl Iterator<Item = (u32, usize)>) -> Option<u32> {
    let mut of_slots: HashMap<u32, usize> = HashMap::default();
    for (slot, bytes) in waiting {
        *of_slots.entry(slot).or_default() += bytes;
    }
    of_slots.into_iter().max_by_key(|(_, bytes)| *bytes).map(|(slot, _)| slot)
}

/// The sample's frames, or the sample again when waiting may give more.
fn advance(
    mut waiting: Waiting,
    (processes, tables, cgroups): (&mut Processes, &mut Tables, &Cgroups),
    now: Instant,
    give_up: bool,
) -> Result<Completed, Waiting> {
    let key = waiting.raw.stack.image_key();
    let waited = now.saturating_duration_since(waiting.since);
    let mappings_may_come = !give_up && waited < MAPPINGS_WAIT;
    let tables_may_come = !give_up && waited < TABLES_WAIT;
    let mut knowledge = processes.knowledge(&key, waiting.raw.time_ns);
    if waiting.stale && knowledge != Knowledge::MayCome {
        // All records up to the sample are applied: unless one of them tells why, /proc must.
        waiting.stale = false;
        processes.resync(&key, waiting.raw.time_ns, End::LayoutStale);
        knowledge = processes.knowledge(&key, waiting.raw.time_ns);
    }
    if mappings_may_come && knowledge == Knowledge::MayCome {
        return Err(waiting);
    }
    if tables_may_come && waiting.slot != 0 && tables.state(waiting.slot) == EXECUTABLE_PENDING {
        // Asked for again: the queue may have been full.
        if let Some(binary) = processes.binary(waiting.slot) {
            tables.want(binary);
        }
        return Err(waiting);
    }
    let Walked { user, end, pending } = walk(&waiting.raw, processes, tables, cgroups);
    match end {
        End::TablePending if pending.is_some() && tables_may_come => {
            waiting.slot = pending.unwrap_or_default();
            if let Some(binary) = processes.binary(waiting.slot) {
                tables.want(binary);
                return Err(waiting);
            }
        }
        // A file of its image is being opened.
        End::TablePending if pending.is_none() && mappings_may_come => return Err(waiting),
        End::MappingUnknown if knowledge != Knowledge::Gone => {
            // What /proc shows that was not known may want a table that is not built yet. It is not read twice for
            // one sample, so that this ends.
            if processes.resync(&key, waiting.raw.time_ns, end) {
                return advance(waiting, (processes, tables, cgroups), now, give_up);
            }
            if mappings_may_come && processes.knowledge(&key, waiting.raw.time_ns) == Knowledge::MayCome {
                return Err(waiting);
            }
        }
        _ => {}
    }
    // Nothing at all is known of a process that came and went unseen.
    let end = if user.is_empty() && knowledge == Knowledge::Gone { End::ImageUnknown } else { end };
    Ok(Completed { raw: waiting.raw, user, end })
}

/// Files that could not be opened are looked for once the walk has met one of them.
fn walk(raw: &Raw, processes: &mut Processes, tables: &mut Tables, cgroups: &Cgroups) -> Walked {
    let (key, cgroup_id) = (raw.stack.image_key(), raw.stack.cgroup_id);
    let (walked, met_opaque) = walk_once(raw, key, processes, tables);
    if met_opaque && processes.find_unopened(&key, cgroup_id, || cgroups.mates(cgroup_id)) {
        return walk_once(raw, key, processes, tables).0;
    }
    walked
}

/// Gives also whether it met a mapping that shows nothing.
fn walk_once(raw: &Raw, key: ImageKey, processes: &Processes, tables: &mut Tables) -> (Walked, bool) {
    let sp = raw.registers.general[<unwind::Native as unwind::Arch>::SP];
    let mut space = Copied { raw, key, processes, tables, sp, pending: None, met_opaque: false };
    let mut user = Vec::new();
    let end = unwind::unwind::<unwind::Native, _>(raw.registers, &mut space, USER_FRAMES_MAX, |frame| {
        user.push(frame);
    });
    (Walked { user, end, pending: space.pending }, space.met_opaque)
}

impl Space for Copied<'_> {
    fn word(&mut self, address: u64) -> Option<u64> {
        let start = usize::try_from(address.checked_sub(self.sp)?).ok()?;
        let bytes = self.raw.memory.get(start..start.checked_add(size_of::<u64>())?)?;
        Some(u64::from_ne_bytes(bytes.try_into().ok()?))
    }

    fn word_end(&self) -> End {
        // A shorter copy ended where the stack could not be read.
        if self.raw.memory.len() == RAW_STACK_BYTES_MAX { End::StackCut } else { End::MemoryUnreadable }
    }

    fn stack_start(&mut self) -> u64 {
        self.raw.stack_start
    }

    fn mapping(&mut self, address: u64) -> Option<Mapping> {
        let mapping = self.processes.mapping_at(&self.key, self.raw.time_ns, address)?;
        self.met_opaque |= mapping.kind == MAPPING_OPAQUE;
        Some(mapping)
    }

    fn rule(&mut self, executable: u32, file_offset: u32) -> Found {
        let found = self.tables.find_rule(executable, file_offset);
        match found {
            Found::NoTable(End::TablePending) => self.pending = Some(executable),
            _ => self.tables.used(executable),
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_are_given_up_first_whose_table_keeps_most_memory_waiting() {
        assert_eq!(slot_of_most([(1, 10), (7, 20), (1, 15), (0, 1)].into_iter()), Some(1));
        assert_eq!(slot_of_most(std::iter::empty()), None);
    }

    #[test]
    fn the_memory_of_waiting_samples_grows_with_their_rate_within_limits() {
        assert_eq!(RawSamples::new(1, 97).bytes_max, WAITING_BYTES_MIN);
        assert!(RawSamples::new(8, 97).bytes_max > WAITING_BYTES_MIN);
        assert_eq!(RawSamples::new(256, 1000).bytes_max, WAITING_BYTES_MAX);
    }
}
