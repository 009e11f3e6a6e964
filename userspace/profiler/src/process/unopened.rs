//! Mapped files that could not be opened, mostly because their process was dead: they are looked for again once a
//! sample has told in which cgroup it ran.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::Processes;
use super::area::Target;
use super::image::ImageKey;
use super::timeline::GenerationId;
use crate::mapping::FileKey;
use crate::recorder::monotonic_ns;

/// Files kept; a path has 4096 bytes at most.
const FILES_MAX: usize = 1024;
/// A file is not looked for again in one cgroup before this time, nanoseconds.
const LOOK_EVERY_NS: u64 = 1_000_000_000;
/// Looks within that time, of all files in all cgroups.
const LOOKS_MAX: usize = 256;

/// Number of such a file, never used again.
pub(crate) type UnopenedId = u64;

/// All of them, and where they were looked for.
#[derive(Debug, Default)]
pub(super) struct UnopenedFiles {
    /// Numbered without gaps, the oldest first.
    files: VecDeque<(FileKey, String)>,
    first_id: UnopenedId,
    /// When each was last looked for, by cgroup.
    looks_ns: HashMap<(UnopenedId, u64), u64>,
    /// Files let go at the limit.
    pub(super) evicted: u64,
    /// Looks that were left out at the limit.
    pub(super) looks_left_out: u64,
}

impl UnopenedFiles {
    /// Keeps what a file is to be looked for by.
    pub(super) fn keep(&mut self, inode: FileKey, path: &str) -> UnopenedId {
        if let Some(at) = self.files.iter().position(|known| known.0 == inode && known.1 == path) {
            return self.first_id + at as u64;
        }
        if self.files.len() >= FILES_MAX {
            self.files.pop_front();
            self.first_id += 1;
            self.evicted += 1;
        }
        self.files.push_back((inode, path.to_owned()));
        self.first_id + self.files.len() as u64 - 1
    }

    fn get(&self, id: UnopenedId) -> Option<&(FileKey, String)> {
        self.files.get(usize::try_from(id.checked_sub(self.first_id)?).ok()?)
    }

    /// Whether a file may be looked for in a cgroup now; it counts as looked for then.
    fn may_look(&mut self, id: UnopenedId, cgroup_id: u64, now_ns: u64) -> bool {
        let is_lately = |looked_ns: u64| looked_ns.saturating_add(LOOK_EVERY_NS) > now_ns;
        if self.looks_ns.get(&(id, cgroup_id)).is_some_and(|looked_ns| is_lately(*looked_ns)) {
            return false;
        }
        if self.looks_ns.len() >= LOOKS_MAX {
            self.looks_ns.retain(|_, looked_ns| is_lately(*looked_ns));
        }
        if self.looks_ns.len() >= LOOKS_MAX {
            self.looks_left_out += 1;
            return false;
        }
        self.looks_ns.insert((id, cgroup_id), now_ns);
        true
    }
}

impl Processes {
    /// A sample that ran in this cgroup met mappings that show nothing. Looks for those files of its image that
    /// could not be opened through `mates`, processes that run in the cgroup now; true when any was found.
    pub(crate) fn find_unopened(
        &mut self,
        key: &ImageKey,
        cgroup_id: u64,
        mates: impl FnOnce() -> Vec<u32>,
    ) -> bool {
        let Some(generation_id) = self.images.get(key).and_then(|image| image.generation) else {
            return false;
        };
        let Some(generation) = self.timeline.get(generation_id) else {
            return false;
        };
        let ids: BTreeSet<UnopenedId> = generation.mappings.unopened().collect();
        let (now_ns, mut mates, mut looked) = (monotonic_ns(), Some(mates), Vec::new());
        let mut found = false;
        for id in ids {
            let Some((inode, path)) = self.unopened.get(id).cloned() else {
                continue;
            };
            let mut binary = self.binaries.held(inode, &path);
            if binary.is_none() && self.unopened.may_look(id, cgroup_id, now_ns) {
                if let Some(mates) = mates.take() {
                    looked = mates();
                }
                binary = self.binaries.open_through_mates(inode, &path, &looked);
            }
            if let Some(binary) = binary {
                self.show(generation_id, id, &Target::Binary(binary));
                found = true;
            }
        }
        found
    }

    /// The mappings of a file show what it turned out to be, also for samples of before.
    pub(super) fn show(&mut self, generation: GenerationId, id: UnopenedId, target: &Target) {
        let page_bytes = self.page_bytes;
        self.timeline.show(generation, |mappings| mappings.show(id, target, page_bytes));
    }
}

#[cfg(test)]
mod tests;
