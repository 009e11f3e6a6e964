//! Process images and their mappings. An image is (tgid, start time, exec id): neither a reused pid
//! nor an exec meets old mappings.

use std::sync::Arc;
use std::time::{Duration, Instant};

use abi::{End, Mapping};
use foldhash::{HashMap, HashSet};

use crate::executable::{Binaries, Binary};
use crate::frame::Place;
use crate::perf_event::page_bytes;
use crate::recorder::{SETTLE_NS, monotonic_ns};
use crate::records::{Body, Record};
use area::{Area, Target};
use image::Wanted;
use slow::SlowFiles;
use start_time::started_at;
use timeline::Timeline;
use unopened::UnopenedFiles;

mod area;
mod image;
mod layout;
mod mappings;
mod reading;
mod slow;
mod start_time;
mod telling;
mod timeline;
mod unopened;

pub(crate) use image::{Image, ImageKey, Seen};
pub(crate) use layout::Layout;

/// Images kept; those without stacks go first.
const IMAGES_MAX: usize = 16_384;
/// Images that wait for records, or for being read again.
const WAITING_MAX: usize = 4096;
/// What is not known of a sample by then does not become known, nanoseconds.
const MAY_COME_NS: u64 = 1_000_000_000;
/// How often what ended is let go, nanoseconds.
const EXPIRE_EVERY_NS: u64 = 1_000_000_000;

/// Whether the mappings that a sample met are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Knowledge {
    Complete,
    /// Records or a look at /proc are to come; for 1 s after the sample at most.
    MayCome,
    /// They cannot become known.
    Gone,
}

/// All images.
#[derive(Debug)]
pub(crate) struct Processes {
    images: HashMap<ImageKey, Image>,
    timeline: Timeline,
    binaries: Binaries,
    unopened: UnopenedFiles,
    slow: SlowFiles,
    /// Images that wait for the records up to their first sample.
    waiting: Vec<ImageKey>,
    /// Images whose mappings are to be read again, once it is their time.
    rereads: Vec<ImageKey>,
    /// Images of which a record is not applied yet that changes what the kernel knows: they have no layout there.
    foreseen: HashSet<ImageKey>,
    /// What the kernel is to forget of images that are not kept any more.
    forgotten: Vec<ImageKey>,
    /// Records up to this moment were applied, CLOCK_MONOTONIC.
    applied_ns: u64,
    expire_after_ns: u64,
    next_number: u32,
    page_bytes: u64,
    /// Times mappings were read from /proc.
    pub(crate) maps_read: u64,
    /// Times they could not be read: the process was gone, or is not ours to look at.
    pub(crate) maps_unreadable: u64,
    /// Times records were lost.
    pub(crate) record_losses: u64,
    /// Images whose pages the kernel counts otherwise.
    pub(crate) unchecked: u64,
    /// Images that did not wait for records, or for being read again, because too many did.
    pub(crate) not_waited_for: u64,
}

impl Default for Processes {
    fn default() -> Self {
        Self {
            images: HashMap::default(),
            timeline: Timeline::default(),
            binaries: Binaries::default(),
            unopened: UnopenedFiles::default(),
            slow: SlowFiles::default(),
            waiting: Vec::new(),
            rereads: Vec::new(),
            foreseen: HashSet::default(),
            forgotten: Vec::new(),
            applied_ns: 0,
            expire_after_ns: 0,
            next_number: 0,
            page_bytes: page_bytes() as u64,
            maps_read: 0,
            maps_unreadable: 0,
            record_losses: 0,
            unchecked: 0,
            not_waited_for: 0,
        }
    }
}

impl Processes {
    /// Applies one record; they come in the order of time, or nearly.
    pub(crate) fn record(&mut self, record: &Record) {
        match &record.body {
            Body::Mapped(mapped) => self.map(mapped, record.time_ns),
            Body::Exec { pid } => self.timeline.exec(*pid, record.time_ns),
            Body::Fork { pid, parent } => self.timeline.fork(*pid, *parent, record.time_ns),
            Body::Exit { pid, tid } => self.timeline.exit(*pid, *tid, record.time_ns),
            Body::Lost(_) => self.records_lost(),
        }
    }

    /// Every image is read again when it is met: records were lost.
    pub(crate) fn records_lost(&mut self) {
        self.record_losses += 1;
        self.timeline.lose();
    }

    /// All records up to `until_ns` were applied: images that waited for them get their mappings, and what is
    /// due is read again.
    pub(crate) fn records_applied(&mut self, until_ns: u64) {
        self.applied_ns = self.applied_ns.max(until_ns);
        self.timeline.changed.extend(self.foreseen.drain());
        let now_ns = monotonic_ns();
        self.timeline.settle(self.applied_ns);
        let Self { waiting, images, .. } = self;
        let due = |key: &mut ImageKey| {
            let waits_for_ns = images.get(key).and_then(|image| image.waits_for_ns);
            waits_for_ns.is_none_or(|time_ns| time_ns <= until_ns || time_ns + MAY_COME_NS <= now_ns)
        };
        for key in waiting.extract_if(.., due).collect::<Vec<_>>() {
            let waited_for_ns = self.images.get_mut(&key).and_then(|image| image.waits_for_ns.take());
            self.bind(key, waited_for_ns, now_ns);
        }
        if now_ns >= self.expire_after_ns {
            self.expire_after_ns = now_ns + EXPIRE_EVERY_NS;
            self.timeline.expire(now_ns);
        }
        self.read_due();
        self.open_slow(now_ns);
    }

    /// When there is something to do without an event, CLOCK_MONOTONIC nanoseconds: records to be read that
    /// images wait for, [`Self::read_due`], or a file that is tried again.
    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        let image = |key| self.images.get(key);
        let waits = |image: &Image| image.waits_for_ns.map(|time_ns| time_ns.saturating_add(SETTLE_NS));
        let waiting = self.waiting.iter().filter_map(image).filter_map(waits);
        let rereads = self.rereads.iter().filter_map(image).map(|image| image.reread.after_ns);
        waiting.chain(rereads).chain(self.slow.next_due_ns()).min()
    }

    /// Notes an image and what is new about it. At first sight its mappings are looked up among the records,
    /// or in /proc if it began before them.
    pub(crate) fn see(&mut self, seen: Seen) {
        let Seen { key, time_ns, in_exec, .. } = seen;
        if let Some(image) = self.images.get_mut(&key) {
            if !in_exec {
                image.name = seen.name;
            }
            image.last_seen = Instant::now();
        } else {
            self.next_number += 1;
            self.images.insert(key, Image::new(self.next_number, seen));
        }
        // Which program's mappings are there inside exec is not certain.
        if !in_exec {
            self.find_mappings(&key, time_ns);
        }
    }

    fn find_mappings(&mut self, key: &ImageKey, time_ns: Option<u64>) {
        let now_ns = monotonic_ns();
        let Some(image) = self.images.get_mut(key) else {
            return;
        };
        if image.generation.is_some() || image.waits_for_ns.is_some() {
            self.see_again(key, time_ns, now_ns);
            return;
        }
        if image.kernel_thread || image.pid.is_none() {
            return;
        }
        let waits = time_ns.filter(|time_ns| *time_ns > self.applied_ns);
        self.not_waited_for += u64::from(waits.is_some() && self.waiting.len() >= WAITING_MAX);
        let waits = waits.filter(|_| self.waiting.len() < WAITING_MAX);
        image.waits_for_ns = waits;
        if waits.is_some() {
            self.waiting.push(*key);
        } else {
            self.bind(*key, time_ns, now_ns);
        }
    }

    /// Whether the mappings that an image had at a moment are known.
    pub(crate) fn knowledge(&self, key: &ImageKey, time_ns: u64) -> Knowledge {
        let late = monotonic_ns() >= time_ns.saturating_add(MAY_COME_NS);
        let Some(image) = self.images.get(key) else {
            return Knowledge::Gone;
        };
        let generation = image.generation.and_then(|id| self.timeline.get(id));
        let to_come = match generation {
            Some(_) => time_ns > self.applied_ns || image.reread.wanted.is_some(),
            None => image.waits_for_ns.is_some(),
        };
        match generation {
            _ if to_come && !late => Knowledge::MayCome,
            Some(generation) if generation.known => Knowledge::Complete,
            _ => Knowledge::Gone,
        }
    }

    /// What an address of an image showed at a moment.
    pub(crate) fn mapping_at(&self, key: &ImageKey, time_ns: u64, address: u64) -> Option<Mapping> {
        let generation = self.timeline.get(self.images.get(key)?.generation?)?;
        generation.mappings.at(time_ns, address).map(layout::mapping)
    }

    /// A sample met an address that no known mapping holds, or a layout that is out of date (`end`): reads
    /// /proc again, at once or as soon as this image may be read again. True when it was read and showed anything new.
    pub(crate) fn resync(&mut self, key: &ImageKey, time_ns: u64, end: End) -> bool {
        let stale = end == End::LayoutStale;
        let is_told = self.images.get(key).is_some_and(|image| image.told_ns < time_ns);
        // Another layout than the sample met is on its way already.
        if stale && (!is_told || self.timeline.changed.contains(key)) {
            return false;
        }
        self.want_reread(key, Wanted { time_ns, stale })
    }

    /// Records up to this moment were applied, CLOCK_MONOTONIC nanoseconds.
    pub(crate) fn applied_ns(&self) -> u64 {
        self.applied_ns
    }

    /// Where a user frame is, as the kernel sends it: a place in a file, or an address of the call.
    pub(crate) fn place(&self, key: &ImageKey, frame: u64) -> Place {
        if let Some((slot, file_offset)) = abi::frame_in_file(frame) {
            return self.binary(slot).map_or(Place::Unknown, |binary| Place::File {
                binary: Arc::clone(binary),
                file_offset: file_offset.into(),
            });
        }
        let Some(image) = self.images.get(key) else {
            return Place::Unknown;
        };
        let generation = image.generation.and_then(|id| self.timeline.get(id));
        match generation.and_then(|generation| generation.mappings.latest(frame)) {
            Some(Area { target: Target::Binary(binary), start, file_offset, .. }) => {
                Place::File { binary: Arc::clone(binary), file_offset: frame - start + file_offset }
            }
            Some(Area { target: Target::Anonymous, .. }) => {
                Place::Jit { image: image.number, pid: image.pid(), address: frame }
            }
            Some(Area { target: Target::Slow(_) | Target::Unopened(_) | Target::Opaque, .. }) | None => {
                Place::Unknown
            }
        }
    }

    /// The executable in a slot.
    pub(crate) fn binary(&self, slot: u32) -> Option<&Arc<Binary>> {
        self.binaries.by_slot(slot)
    }

    pub(crate) fn get(&self, key: &ImageKey) -> Option<&Image> {
        self.images.get(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.images.len()
    }

    /// Lives of processes that are followed, also of those never sampled.
    pub(crate) fn followed(&self) -> usize {
        self.timeline.len()
    }

    /// Lives let go at a limit, and mappings that found no room.
    pub(crate) fn dropped(&self) -> (u64, u64) {
        (self.timeline.evicted, self.timeline.mappings_dropped)
    }

    /// Files that could not be opened let go at a limit, and looks for them left out at another.
    pub(crate) fn unopened_dropped(&self) -> (u64, u64) {
        (self.unopened.evicted, self.unopened.looks_left_out)
    }

    /// Slow files that were not tried again because too many were.
    pub(crate) fn slow_left_out(&self) -> u64 {
        self.slow.left_out
    }

    pub(crate) fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// Closes files that no process has mapped for some time; gives the slots that are let go. They are given
    /// to others after 10 s.
    pub(crate) fn close_unused_files(&mut self) -> Vec<u32> {
        let mut used = HashSet::default();
        let mut seen = HashSet::default();
        let now_ns = monotonic_ns();
        for generation in self.timeline.generations() {
            // Forked children share them.
            if seen.insert(Arc::as_ptr(&generation.mappings)) {
                used.extend(generation.mappings.targets(now_ns).filter_map(|target| match target {
                    Target::Binary(binary) => Some(binary.id),
                    Target::Anonymous | Target::Slow(_) | Target::Unopened(_) | Target::Opaque => None,
                }));
            }
        }
        self.binaries.retain(Instant::now(), &used)
    }

    /// Lets go of images that nothing refers to and that were not seen for `idle`.
    pub(crate) fn retain(&mut self, idle: Duration, in_use: impl Fn(&ImageKey) -> bool) {
        let now = Instant::now();
        let crowded = self.images.len() > IMAGES_MAX;
        let gone = self.images.extract_if(|key, image| {
            !in_use(key) && (crowded || now.duration_since(image.last_seen) >= idle)
        });
        for (key, image) in gone {
            if image.told.is_some() {
                self.forgotten.push(key);
            }
            if let Some(generation) = image.generation.and_then(|id| self.timeline.get_mut(id)) {
                generation.image = None;
            }
        }
    }

    /// Finds out which mappings are an image's own.
    fn bind(&mut self, key: ImageKey, time_ns: Option<u64>, now_ns: u64) {
        let Some(image) = self.images.get_mut(&key) else {
            return;
        };
        let Some(pid) = image.pid else {
            return;
        };
        image.generation = self.timeline.bind(key, pid, time_ns, now_ns);
        self.timeline.changed.insert(key);
        let generation = image.generation.and_then(|id| self.timeline.get(id));
        if generation.is_none_or(|generation| !generation.known || generation.suspect) {
            self.want_reread(&key, Wanted { time_ns: time_ns.unwrap_or(now_ns), stale: false });
        }
    }

    fn see_again(&mut self, key: &ImageKey, time_ns: Option<u64>, now_ns: u64) {
        let Some(image) = self.images.get(key) else {
            return;
        };
        let Some(pid) = image.pid.filter(|_| !image.kernel_thread && image.waits_for_ns.is_none()) else {
            return;
        };
        let Some((id, generation)) = image.generation.and_then(|id| Some((id, self.timeline.get(id)?)))
        else {
            // It was let go at a limit, or its process had ended.
            self.bind(*key, time_ns, now_ns);
            return;
        };
        let (ended_ns, suspect) = (generation.ended_ns, generation.suspect);
        if let (Some(time_ns), Some(ended_ns)) = (time_ns, ended_ns)
            && time_ns > ended_ns
            && started_at(pid, key.start_time_ns)
        {
            self.timeline.revive(id);
        }
        if suspect {
            self.want_reread(key, Wanted { time_ns: time_ns.unwrap_or(now_ns), stale: false });
        }
    }
}

#[cfg(test)]
mod tests;
