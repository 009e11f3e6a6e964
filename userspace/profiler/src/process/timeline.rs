//! The lives of processes and what they mapped, as the kernel's records tell. A life begins with a fork and has a
//! generation of mappings for each program that it runs.

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::{HashMap, HashSet};

use super::area::Area;
use super::image::ImageKey;
use super::mappings::{Change, Mappings};
use crate::executable::RELATIVES_MAX;
use generation::{BeforeRead, Life};

mod bind;
mod generation;
mod room;

pub(super) use generation::{Generation, GenerationId};

/// Lives kept, of living processes and for a short time of dead ones.
const LIVES_MAX: usize = 32_768;
/// Ranges kept in all.
const AREAS_MAX: usize = 262_144;
/// An exec so short after the end of a process is its own, and that end was its first thread's.
const EXEC_AFTER_EXIT_MAX_NS: u64 = 1_000_000_000;
/// Execs of one life that are kept.
const GENERATIONS_MAX: usize = 64;

/// All lives.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    /// By pid, the oldest first.
    lives: HashMap<u32, Vec<Life>>,
    generations: HashMap<GenerationId, Generation>,
    next_id: GenerationId,
    lives_len: usize,
    areas_len: usize,
    /// Generations that ended, and when.
    ended: VecDeque<(u64, GenerationId)>,
    /// Those that /proc was read for a moment ago.
    read: Vec<GenerationId>,
    /// Processes whose end may have been missed.
    unsure: Vec<u32>,
    /// Images whose layout may be another now.
    pub(super) changed: HashSet<ImageKey>,
    /// Lives let go at a limit.
    pub(super) evicted: u64,
    /// Mappings that found no room.
    pub(super) mappings_dropped: u64,
}

impl Timeline {
    pub(super) fn get(&self, id: GenerationId) -> Option<&Generation> {
        self.generations.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: GenerationId) -> Option<&mut Generation> {
        self.generations.get_mut(&id)
    }

    /// Lives kept.
    pub(super) fn len(&self) -> usize {
        self.lives_len
    }

    pub(super) fn generations(&self) -> impl Iterator<Item = &Generation> {
        self.generations.values()
    }

    /// A process was made; with `pid` equal to `parent`, a thread. It shares what its parent maps, be it a copy
    /// (fork) or the same memory until an exec (vfork).
    pub(super) fn fork(&mut self, pid: u32, parent: u32, time_ns: u64) {
        if pid == parent {
            if let Some(life) = self.newest_life(pid) {
                life.threads = life.threads.map(|threads| threads + 1);
                life.used_ns = time_ns;
            }
            return;
        }
        let inherited = self.newest(parent).and_then(|id| self.get(id)).filter(|parent| parent.known);
        let (mappings, suspect) = match inherited {
            Some(parent) if parent.mappings.is_as_of(time_ns) => {
                (Some(Arc::clone(&parent.mappings)), parent.suspect)
            }
            Some(parent) => (Some(Arc::new(parent.mappings.as_of(time_ns))), parent.suspect),
            None => (None, false),
        };
        let known = mappings.is_some();
        let id = self.begin_life(pid, parent, time_ns, true);
        if let Some(child) = self.generations.get_mut(&id) {
            (child.known, child.suspect) = (known, suspect);
            child.mappings = mappings.unwrap_or_default();
            // Shared ones were counted.
            if Arc::strong_count(&child.mappings) == 1 {
                self.areas_len += child.mappings.len();
            }
        }
    }

    /// The process runs another program from now on. A fork would have told of another process: one whose end was
    /// told a moment ago lives, and it was another thread than its first that called exec and took its id.
    pub(super) fn exec(&mut self, pid: u32, time_ns: u64) {
        let ended_ns = self.newest_life(pid).map(|life| life.ended_ns);
        let lives = |ended_ns: u64| ended_ns.saturating_add(EXEC_AFTER_EXIT_MAX_NS) > time_ns;
        match ended_ns {
            Some(ended_ns) if ended_ns.is_none_or(lives) => {
                if let Some(id) = self.newest(pid) {
                    self.revive(id);
                }
                self.begin_generation(pid, time_ns);
            }
            _ => {
                self.begin_life(pid, 0, time_ns, false);
            }
        }
        if let Some(life) = self.newest_life(pid) {
            // The others ended before.
            life.threads = Some(1);
        }
        if let Some(generation) = self.newest(pid).and_then(|id| self.get_mut(id)) {
            generation.known = true;
        }
    }

    /// A thread ended, and the process with its last one; where threads were not told, with its first.
    pub(super) fn exit(&mut self, pid: u32, tid: u32, time_ns: u64) {
        let Some(life) = self.newest_life(pid).filter(|life| life.ended_ns.is_none()) else {
            return;
        };
        life.threads = life.threads.map(|threads| threads.saturating_sub(1));
        if life.threads.map_or(pid == tid, |threads| threads == 0) {
            self.end_life(pid, time_ns);
        }
    }

    /// Notes a mapping of what the process runs now. `None` when what else it maps is not known: then /proc is
    /// read if it is ever sampled.
    pub(super) fn map(&mut self, pid: u32, area: Area) -> Option<Change> {
        let id = self.newest(pid)?;
        let time_ns = area.from_ns;
        if let Some(life) = self.newest_life(pid) {
            life.used_ns = time_ns;
        }
        let change = self.change(id, |mappings| mappings.map(area))?;
        match change {
            Change::Full => self.mappings_dropped += 1,
            Change::Changed => self.changed.extend(self.get(id).and_then(|generation| generation.image)),
            Change::None => {}
        }
        if self.areas_len > AREAS_MAX {
            self.make_room();
        }
        Some(change)
    }

    /// The image that the kernel samples as this process, when a mapping from `start` to `end` takes the place of
    /// another one.
    pub(super) fn replaced(&self, pid: u32, start: u64, end: u64) -> Option<ImageKey> {
        let generation = self.get(self.newest(pid)?)?;
        let overlaps = generation.mappings.current().iter().any(|area| area.start < end && start < area.end);
        generation.image.filter(|_| overlaps)
    }

    /// Whether what a process maps is noted.
    pub(super) fn follows(&mut self, pid: u32) -> bool {
        self.newest(pid).and_then(|id| self.get(id)).is_some_and(|generation| generation.known)
    }

    /// Puts what /proc showed between two moments in the place of what is known of a generation; true when it
    /// is anything else.
    pub(super) fn replace(&mut self, id: GenerationId, read: (u64, u64), areas: Vec<Area>) -> bool {
        let Some(generation) = self.generations.get_mut(&id) else {
            return false;
        };
        let (read_ns, until_ns) = read;
        let (from_ns, known) = (generation.from_ns, generation.known);
        let before = BeforeRead { until_ns, mappings: Arc::clone(&generation.mappings), known };
        generation.before_read.get_or_insert(before).until_ns = until_ns;
        (generation.known, generation.suspect, generation.read_ns) = (true, false, Some(read_ns));
        self.read.push(id);
        let changed = !known | self.change(id, |it| it.replace(read_ns, from_ns, areas)).unwrap_or(false);
        if changed {
            self.changed.extend(self.get(id).and_then(|generation| generation.image));
        }
        changed
    }

    /// More is known of what a generation's mappings show.
    pub(super) fn show(&mut self, id: GenerationId, change: impl FnOnce(&mut Mappings)) {
        if self.change(id, change).is_some() {
            self.changed.extend(self.get(id).and_then(|generation| generation.image));
        }
    }

    /// Generations whose mappings are such.
    pub(super) fn with(&self, are: impl Fn(&Mappings) -> bool) -> Vec<GenerationId> {
        let found = self.generations.iter().filter(|(_, generation)| are(&generation.mappings));
        found.map(|(id, _)| *id).collect()
    }

    /// Whether /proc shows this generation: it is what its process runs now.
    pub(super) fn is_running(&self, id: GenerationId) -> bool {
        self.get(id).is_some_and(|generation| {
            generation.ended_ns.is_none() && self.newest(generation.pid) == Some(id)
        })
    }

    /// Ancestors of a process, the nearest first.
    pub(super) fn relatives(&self, pid: u32) -> Vec<u32> {
        let parent = |pid: &u32| Some(self.lives.get(pid)?.last()?.parent).filter(|parent| *parent != 0);
        std::iter::successors(parent(&pid), parent).take(RELATIVES_MAX).collect()
    }

    /// Records were lost: nothing that is known is sure.
    pub(super) fn lose(&mut self) {
        for generation in self.generations.values_mut() {
            generation.suspect = generation.ended_ns.is_none();
        }
        for life in self.lives.values_mut().flatten() {
            life.threads = None;
        }
        self.unsure = self.lives.keys().copied().collect();
    }

    /// All records up to a moment have come.
    pub(super) fn settle(&mut self, applied_ns: u64) {
        let Self { generations, read, areas_len, .. } = self;
        read.retain(|id| {
            let Some(generation) = generations.get_mut(id) else {
                return false;
            };
            let settled = generation.before_read.take_if(|before| before.until_ns <= applied_ns);
            if let Some(before) = &settled {
                *areas_len = areas_len.saturating_sub(own_len(&before.mappings));
            }
            settled.is_none() && generation.before_read.is_some()
        });
    }

    /// What the process runs now, or ran last.
    fn newest(&self, pid: u32) -> Option<GenerationId> {
        self.lives.get(&pid)?.last()?.generations.last().copied()
    }

    fn newest_life(&mut self, pid: u32) -> Option<&mut Life> {
        self.lives.get_mut(&pid)?.last_mut()
    }

    fn begin_life(&mut self, pid: u32, parent: u32, time_ns: u64, forked: bool) -> GenerationId {
        // Its end was missed.
        self.end_life(pid, time_ns);
        if self.lives_len >= LIVES_MAX {
            self.make_room();
        }
        let id = self.add_generation(pid, time_ns);
        self.lives.entry(pid).or_default().push(Life {
            parent,
            begun_ns: time_ns,
            forked,
            start_ns: None,
            ended_ns: None,
            threads: forked.then_some(1),
            generations: vec![id],
            used_ns: time_ns,
        });
        self.lives_len += 1;
        id
    }

    /// In the newest life, which there must be.
    fn begin_generation(&mut self, pid: u32, time_ns: u64) -> GenerationId {
        self.end_generation(pid, time_ns);
        let id = self.add_generation(pid, time_ns);
        let mut excess = None;
        if let Some(life) = self.newest_life(pid) {
            life.generations.push(id);
            life.used_ns = time_ns;
            excess = (life.generations.len() > GENERATIONS_MAX).then(|| life.generations[0]);
        }
        if let Some(oldest) = excess {
            self.forget(oldest);
        }
        id
    }

    fn add_generation(&mut self, pid: u32, time_ns: u64) -> GenerationId {
        self.next_id += 1;
        let generation = Generation {
            pid,
            from_ns: time_ns,
            ended_ns: None,
            mappings: Arc::default(),
            known: false,
            suspect: false,
            read_ns: None,
            before_read: None,
            image: None,
            checked: true,
        };
        self.generations.insert(self.next_id, generation);
        self.next_id
    }

    /// The process has ended.
    pub(super) fn end_life(&mut self, pid: u32, time_ns: u64) {
        if let Some(life) = self.newest_life(pid)
            && life.ended_ns.is_none()
        {
            life.ended_ns = Some(time_ns);
            self.end_generation(pid, time_ns);
        }
    }

    fn end_generation(&mut self, pid: u32, time_ns: u64) {
        let Some(id) = self.newest(pid) else {
            return;
        };
        let Some(generation) = self.generations.get_mut(&id) else {
            return;
        };
        // What /proc showed may have been the next one's already.
        if let Some(before) = generation.before_read.take_if(|before| before.until_ns >= time_ns) {
            let after = std::mem::replace(&mut generation.mappings, before.mappings);
            generation.known = before.known;
            self.areas_len = self.areas_len.saturating_sub(own_len(&after));
        }
        generation.ended_ns = Some(time_ns);
        self.changed.extend(generation.image);
        self.ended.push_back((time_ns, id));
    }

    /// Changes mappings that may be shared; keeps count of them.
    fn change<T>(&mut self, id: GenerationId, change: impl FnOnce(&mut Mappings) -> T) -> Option<T> {
        let generation = self.generations.get_mut(&id).filter(|generation| generation.known)?;
        let before = own_len(&generation.mappings);
        let result = change(Arc::make_mut(&mut generation.mappings));
        self.areas_len = (self.areas_len + generation.mappings.len()).saturating_sub(before);
        Some(result)
    }
}

/// Ranges that go with this reference.
fn own_len(mappings: &Arc<Mappings>) -> usize {
    if Arc::strong_count(mappings) == 1 { mappings.len() } else { 0 }
}

#[cfg(test)]
mod tests;
