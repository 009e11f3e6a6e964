//! Process images and their mappings. An image is (tgid, start time, exec id): neither a reused pid
//! nor an exec meets old mappings.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::STAT_TICK_NS;
use crate::executable::{Binaries, Binary};
use crate::frame::{self, Place};
use crate::mapping::{self, Backing};

/// Images kept; those without stacks go first.
const IMAGES_MAX: usize = 16_384;
/// Between two reads of one image's mappings because of an unknown address: doubled from the first to the second.
const REREAD_MIN: Duration = Duration::from_millis(200);
const REREAD_MAX: Duration = Duration::from_secs(30);

/// A process id is not used again within a second.
const START_TOLERANCE_NS: u64 = 1_000_000_000;

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

/// Whether the process with this id began when the image did. /proc counts from boot in hundredths of a
/// second, the kernel's CLOCK_MONOTONIC leaves out suspended time (proc(5), field 22 of stat).
fn started_at(pid: u32, start_time_ns: u64) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The name in parentheses may hold anything, also parentheses.
    let Some((_, fields)) = stat.rsplit_once(')') else {
        return false;
    };
    let Some(ticks) = fields.split_ascii_whitespace().nth(19).and_then(|field| field.parse::<u64>().ok())
    else {
        return false;
    };
    let started_ns = ticks.saturating_mul(STAT_TICK_NS);
    started_ns.abs_diff(start_time_ns.saturating_add(suspended_ns())) <= START_TOLERANCE_NS
}

/// What CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC now. A process older than a suspension seems younger by
/// it than /proc says; then its mappings are not believed.
fn suspended_ns() -> u64 {
    let read = |clock| {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: a complete timespec; these clocks always exist.
        unsafe { libc::clock_gettime(clock, &raw mut time) };
        (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
    };
    let (monotonic, boot) = (read(libc::CLOCK_MONOTONIC), read(libc::CLOCK_BOOTTIME));
    boot.saturating_sub(monotonic)
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
mod tests {
    use super::*;

    /// When this process began, as the kernel would say.
    fn own_start_ns() -> u64 {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let ticks: u64 =
            stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap();
        (ticks * STAT_TICK_NS).saturating_sub(suspended_ns())
    }

    fn seen(tgid: u32, exec_id: u32) -> Seen {
        let key = ImageKey { tgid, exec_id, start_time_ns: own_start_ns() };
        Seen { key, pid: Some(tgid), name: "me".into(), kernel_thread: false }
    }

    #[test]
    fn an_address_of_this_process_lies_in_its_own_file() {
        let mut processes = Processes::default();
        let me = seen(std::process::id(), 0);
        let key = me.key;
        processes.see(me);
        let address = an_address_of_this_process_lies_in_its_own_file as *const () as u64;
        let Places { places, cut, may_come } = processes.places(&key, &[address, 1, address]);
        assert!(cut && may_come, "the mappings were read just now");
        assert!(matches!(&places[0], Place::File { binary, .. } if binary.name.starts_with("profiler")));
        assert!(matches!(places[1], Place::Unknown));
        assert_eq!(places.len(), 2);
    }

    #[test]
    fn an_image_replaced_by_exec_keeps_its_own_mappings() {
        let mut processes = Processes::default();
        let (old, new) = (seen(std::process::id(), 0), seen(std::process::id(), 1));
        let (old_key, new_key) = (old.key, new.key);
        processes.see(old);
        processes.images.get_mut(&old_key).unwrap().ranges.clear();
        processes.images.get_mut(&old_key).unwrap().reread_after = Instant::now();
        processes.see(new);
        let address = seen as *const () as u64;
        assert!(matches!(processes.places(&old_key, &[address]).places[0], Place::Unknown));
        assert!(matches!(processes.places(&new_key, &[address]).places[0], Place::File { .. }));
    }

    #[test]
    fn images_in_use_or_seen_lately_are_kept() {
        let mut processes = Processes::default();
        for exec_id in 0..3 {
            processes.see(seen(std::process::id(), exec_id));
        }
        processes.retain(Duration::from_secs(60), |_| false);
        assert_eq!(processes.len(), 3);
        processes.retain(Duration::ZERO, |key| key.exec_id == 2);
        assert_eq!(processes.len(), 1);
    }

    #[test]
    fn a_process_that_only_has_the_same_id_gives_no_mappings() {
        let mut processes = Processes::default();
        let mut other = seen(std::process::id(), 0);
        other.key.start_time_ns += 10_000_000_000;
        let key = other.key;
        processes.see(other);
        let address = seen as *const () as u64;
        assert!(matches!(processes.places(&key, &[address]).places[0], Place::Unknown));
        assert_eq!(processes.maps_unreadable, 1);
    }

    #[test]
    fn an_exec_that_is_already_known_keeps_the_old_image_from_its_mappings() {
        let mut processes = Processes::default();
        let (old, new) = (seen(std::process::id(), 0), seen(std::process::id(), 1));
        let old_key = old.key;
        processes.note(new.key);
        processes.see(old);
        assert!(matches!(processes.places(&old_key, &[seen as *const () as u64]).places[0], Place::Unknown));
    }

    #[test]
    fn an_address_mapped_since_is_found_when_asked_later() {
        let mut processes = Processes::default();
        let me = seen(std::process::id(), 0);
        let key = me.key;
        processes.see(me);
        let image = processes.images.get_mut(&key).unwrap();
        image.ranges.clear();
        let address = seen as *const () as u64;
        assert!(processes.places(&key, &[address]).may_come);
        processes.images.get_mut(&key).unwrap().reread_after = Instant::now();
        let later = processes.places(&key, &[address]);
        assert!(!later.cut && matches!(later.places[0], Place::File { .. }));
        assert_eq!(processes.images[&key].reread_wait, REREAD_MIN);
    }
}
