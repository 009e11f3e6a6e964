//! Process images and their mappings. An image is (tgid, start time, exec id): neither a reused pid
//! nor an exec meets old mappings.

mod start_time;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::executable::{Binaries, Binary};
use crate::frame::{self, Place};
use crate::mapping::{self, Backing};
use start_time::started_at;

/// Images kept; those without stacks go first.
const IMAGES_MAX: usize = 16_384;
/// Between two reads of one image's mappings because of an unknown address: doubled from the first to the second.
const REREAD_MIN: Duration = Duration::from_millis(200);
const REREAD_MAX: Duration = Duration::from_secs(30);

/// After its first sight an image is read again: it is often met inside exec, or while its loader still
/// maps libraries, and it may be gone before the next drain.
const YOUNG_READ_AFTER: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(100)];
/// Images that wait to be read again.
const YOUNG_MAX: usize = 4096;

/// Identity of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ImageKey {
    pub(crate) tgid: u32,
    pub(crate) exec_id: u32,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub(crate) start_time_ns: u64,
}

/// One image.
#[derive(Debug)]
pub(crate) struct Image {
    /// Number of the image, never used again.
    pub(crate) number: u32,
    pub(crate) key: ImageKey,
    /// The process id to look it up with in /proc; `None` when it is out of this process's sight.
    pub(crate) pid: Option<u32>,
    pub(crate) name: String,
    pub(crate) kernel_thread: bool,
    pub(crate) last_seen: Instant,
    ranges: Vec<Range>,
    reread_after: Instant,
    reread_wait: Duration,
}

#[derive(Debug)]
struct Range {
    start: u64,
    end: u64,
    file_offset: u64,
    target: Target,
}

#[derive(Debug)]
enum Target {
    Binary(Arc<Binary>),
    Jit,
    Opaque,
}

/// All images.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    images: HashMap<ImageKey, Image>,
    /// The newest image of each tgid: only its mappings are what /proc shows.
    newest: HashMap<u32, ImageKey>,
    /// When which image is read again, in the order of arrival.
    young: Vec<(Instant, ImageKey)>,
    binaries: Binaries,
    next_number: u32,
    /// Times mappings were read from /proc.
    pub(crate) maps_read: u64,
    /// Times they could not be read: the process was gone, or is not ours to look at.
    pub(crate) maps_unreadable: u64,
    /// User stacks that end at an address which no known mapping holds.
    pub(crate) stacks_cut: u64,
}

/// Where the addresses of a stack lie.
#[derive(Debug, Default)]
pub(crate) struct Places {
    pub(crate) places: Vec<Place>,
    /// The last place is unknown, and what came after it was left out.
    pub(crate) cut: bool,
    /// Mappings were read too short a time ago to be read again: asking later may give more.
    pub(crate) may_come: bool,
}

/// What a stack says about its process.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) key: ImageKey,
    /// The process id to look it up with in /proc; `None` when it is out of this process's sight.
    pub(crate) pid: Option<u32>,
    pub(crate) name: String,
    pub(crate) kernel_thread: bool,
}

impl Processes {
    /// Notes an image and what is new about it; reads its mappings when it was never seen.
    pub(crate) fn see(&mut self, seen: Seen) {
        let now = Instant::now();
        if let Some(image) = self.images.get_mut(&seen.key) {
            image.name = seen.name;
            image.last_seen = now;
            return;
        }
        self.next_number += 1;
        let mut image = Image {
            number: self.next_number,
            key: seen.key,
            pid: seen.pid,
            name: seen.name,
            kernel_thread: seen.kernel_thread,
            last_seen: now,
            ranges: Vec::new(),
            reread_after: now + REREAD_MIN,
            reread_wait: REREAD_MIN,
        };
        self.note(seen.key);
        if !image.kernel_thread && self.is_newest(&seen.key) {
            self.read_mappings(&mut image);
            if self.young.len() + YOUNG_READ_AFTER.len() <= YOUNG_MAX {
                self.young.extend(YOUNG_READ_AFTER.map(|after| (now + after, seen.key)));
            }
        }
        self.images.insert(seen.key, image);
    }

    /// Notes that an image exists, before what is told of it is looked at: /proc shows the newest only.
    pub(crate) fn note(&mut self, key: ImageKey) {
        let newest = self.newest.entry(key.tgid).or_insert(key);
        if (key.start_time_ns, key.exec_id) > (newest.start_time_ns, newest.exec_id) {
            *newest = key;
        }
    }

    fn is_newest(&self, key: &ImageKey) -> bool {
        self.newest.get(&key.tgid) == Some(key)
    }

    /// When [`Self::read_young`] has something to do.
    pub(crate) fn next_young(&self) -> Option<Instant> {
        self.young.iter().map(|(due, _)| *due).min()
    }

    /// Reads images again that were met a moment ago.
    pub(crate) fn read_young(&mut self) {
        let now = Instant::now();
        let due: Vec<(Instant, ImageKey)> = self.young.extract_if(.., |(due, _)| *due <= now).collect();
        for (_, key) in due {
            if self.is_newest(&key)
                && let Some(mut image) = self.images.remove(&key)
            {
                self.read_mappings(&mut image);
                self.images.insert(key, image);
            }
        }
    }

    pub(crate) fn get(&self, key: &ImageKey) -> Option<&Image> {
        self.images.get(key)
    }

    /// Where user addresses of an image lie, in order. Ends at the first address that no mapping
    /// holds: code without frame pointers left something else in the register, and what follows is no stack.
    pub(crate) fn places(&mut self, key: &ImageKey, addresses: &[u64]) -> Places {
        let lookups: Vec<u64> = frame::instructions(addresses).collect();
        let can_read = self.is_newest(key);
        let Some(mut image) = self.images.remove(key) else {
            return Places {
                places: lookups.iter().take(1).map(|_| Place::Unknown).collect(),
                ..Places::default()
            };
        };
        let first_unknown =
            |image: &Image| lookups.iter().position(|address| image.range(*address).is_none());
        let mut unknown = first_unknown(&image);
        let mut may_come = false;
        if let Some(before) = unknown
            && can_read
            && !image.kernel_thread
        {
            may_come = Instant::now() < image.reread_after;
            if !may_come {
                self.read_mappings(&mut image);
                unknown = first_unknown(&image);
                let helped = unknown.is_none_or(|after| after > before);
                image.reread_wait = if helped { REREAD_MIN } else { (image.reread_wait * 2).min(REREAD_MAX) };
                image.reread_after = Instant::now() + image.reread_wait;
            }
        }
        let kept = unknown.map_or(lookups.len(), |index| index + 1);
        let places = lookups[..kept].iter().map(|address| image.place(*address)).collect();
        self.images.insert(*key, image);
        Places { places, cut: unknown.is_some(), may_come }
    }

    /// Closes files that no image maps any more.
    pub(crate) fn close_unused_files(&mut self) {
        let targets = self.images.values().flat_map(|image| &image.ranges).map(|range| &range.target);
        let used: HashSet<u64> = targets
            .filter_map(|target| match target {
                Target::Binary(binary) => Some(binary.id),
                Target::Jit | Target::Opaque => None,
            })
            .collect();
        self.binaries.retain(|id| used.contains(&id));
    }

    /// Lets go of images that nothing refers to and that were not seen for `idle`.
    pub(crate) fn retain(&mut self, idle: Duration, in_use: impl Fn(&ImageKey) -> bool) {
        let now = Instant::now();
        let crowded = self.images.len() > IMAGES_MAX;
        self.images
            .retain(|key, image| in_use(key) || (!crowded && now.duration_since(image.last_seen) < idle));
        let images = &self.images;
        self.newest.retain(|_, key| images.contains_key(key));
    }

    pub(crate) fn len(&self) -> usize {
        self.images.len()
    }

    pub(crate) fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    fn read_mappings(&mut self, image: &mut Image) {
        self.maps_read += 1;
        let Some(pid) = image.pid else {
            self.maps_unreadable += 1;
            return;
        };
        if !started_at(pid, image.key.start_time_ns) {
            self.maps_unreadable += 1;
            return;
        }
        let mappings = match mapping::read(pid) {
            Ok(mappings) if !mappings.is_empty() => mappings,
            // A process that ends has no mappings any more: what was known of it stays.
            Ok(_) | Err(_) => {
                self.maps_unreadable += 1;
                return;
            }
        };
        let mut ranges = Vec::with_capacity(mappings.len());
        for mapping in mappings {
            let binary = match &mapping.backing {
                Backing::File { path, inode } => {
                    self.binaries.open(pid, &mapping, path, *inode).map(Target::Binary)
                }
                Backing::Vdso => self.binaries.vdso().map(Target::Binary),
                Backing::Anonymous => Some(Target::Jit),
                Backing::Vsyscall => None,
            };
            ranges.push(Range {
                start: mapping.start,
                end: mapping.end,
                file_offset: mapping.file_offset,
                target: binary.unwrap_or(Target::Opaque),
            });
        }
        image.ranges = ranges;
    }
}

impl Image {
    /// As this process sees it, else as the initial PID namespace does.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.unwrap_or(self.key.tgid)
    }

    fn range(&self, address: u64) -> Option<&Range> {
        mapping::find(&self.ranges, address, |range| (range.start, range.end))
    }

    fn place(&self, address: u64) -> Place {
        match self.range(address) {
            Some(Range { target: Target::Binary(binary), start, file_offset, .. }) => {
                Place::File { binary: Arc::clone(binary), file_offset: address - start + file_offset }
            }
            Some(Range { target: Target::Jit, .. }) => {
                Place::Jit { image: self.number, pid: self.pid(), address }
            }
            _ => Place::Unknown,
        }
    }
}

#[cfg(test)]
mod tests;
