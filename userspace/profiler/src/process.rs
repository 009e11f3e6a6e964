//! Process images and their mappings. An image is (tgid, start time, exec id): neither a reused pid
//! nor an exec meets old mappings.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::executable::{Binaries, Binary};
use crate::frame::Place;
use crate::mapping::{self, Backing};

/// Images kept; those without stacks go first.
const IMAGES_MAX: usize = 16_384;
/// Between two reads of one image's mappings because of an unknown address: doubled from the first to the second.
const REREAD_MIN: Duration = Duration::from_millis(200);
const REREAD_MAX: Duration = Duration::from_secs(30);

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
    pub(crate) cgroup_id: u64,
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

/// What a stack says about its process.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) key: ImageKey,
    /// The process id to look it up with in /proc; `None` when it is out of this process's sight.
    pub(crate) pid: Option<u32>,
    pub(crate) name: String,
    pub(crate) cgroup_id: u64,
    pub(crate) kernel_thread: bool,
}

impl Processes {
    /// Notes an image and what is new about it; reads its mappings when it was never seen.
    pub(crate) fn see(&mut self, seen: Seen) {
        let now = Instant::now();
        if let Some(image) = self.images.get_mut(&seen.key) {
            image.name = seen.name;
            image.cgroup_id = seen.cgroup_id;
            image.last_seen = now;
            return;
        }
        self.next_number += 1;
        let mut image = Image {
            number: self.next_number,
            key: seen.key,
            pid: seen.pid,
            name: seen.name,
            cgroup_id: seen.cgroup_id,
            kernel_thread: seen.kernel_thread,
            last_seen: now,
            ranges: Vec::new(),
            reread_after: now + REREAD_MIN,
            reread_wait: REREAD_MIN,
        };
        if !image.kernel_thread {
            self.read_mappings(&mut image);
        }
        self.newest.insert(seen.key.tgid, seen.key);
        self.images.insert(seen.key, image);
    }

    pub(crate) fn get(&self, key: &ImageKey) -> Option<&Image> {
        self.images.get(key)
    }

    /// Where user addresses of an image lie, in order; the leaf is an exact address, the others are
    /// return addresses, whose call lies one byte before. Ends at the first address that no mapping
    /// holds: code without frame pointers left something else in the register, and what follows is no stack.
    pub(crate) fn places(&mut self, key: &ImageKey, addresses: &[u64]) -> Vec<Place> {
        let lookups: Vec<u64> = addresses
            .iter()
            .enumerate()
            .map(|(index, address)| if index == 0 { *address } else { address.saturating_sub(1) })
            .collect();
        let is_newest = self.newest.get(&key.tgid) == Some(key);
        let Some(mut image) = self.images.remove(key) else {
            return lookups.into_iter().take(1).map(|_| Place::Unknown).collect();
        };
        let unknown = |image: &Image| lookups.iter().any(|address| image.range(*address).is_none());
        if is_newest && !image.kernel_thread && Instant::now() >= image.reread_after && unknown(&image) {
            self.read_mappings(&mut image);
            image.reread_after = Instant::now() + image.reread_wait;
            image.reread_wait = (image.reread_wait * 2).min(REREAD_MAX);
        }
        let mut places = Vec::with_capacity(lookups.len());
        for address in lookups {
            places.push(image.place(address));
            if matches!(places.last(), Some(Place::Unknown)) {
                self.stacks_cut += 1;
                break;
            }
        }
        self.images.insert(*key, image);
        places
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
mod tests {
    use super::*;

    fn seen(tgid: u32, exec_id: u32) -> Seen {
        let key = ImageKey { tgid, exec_id, start_time_ns: 1 };
        Seen { key, pid: Some(tgid), name: "me".into(), cgroup_id: 1, kernel_thread: false }
    }

    #[test]
    fn an_address_of_this_process_lies_in_its_own_file() {
        let mut processes = Processes::default();
        let me = seen(std::process::id(), 0);
        let key = me.key;
        processes.see(me);
        let address = an_address_of_this_process_lies_in_its_own_file as *const () as u64;
        let places = processes.places(&key, &[address, 1, address]);
        assert!(matches!(&places[0], Place::File { binary, .. } if binary.name.starts_with("profiler")));
        assert!(matches!(places[1], Place::Unknown));
        assert_eq!((places.len(), processes.stacks_cut), (2, 1));
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
        assert!(matches!(processes.places(&old_key, &[address])[0], Place::Unknown));
        assert!(matches!(processes.places(&new_key, &[address])[0], Place::File { .. }));
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
}
