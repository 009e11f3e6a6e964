//! Mapped files that did not let themselves be opened in time: the machine or a disk was busy, or the file system does
//! not answer. They are tried again for a while, in the first part of which samples that meet them come whole.

use super::Processes;
use super::area::Target;
use super::unopened::UnopenedId;
use crate::executable::{Opened, Source};
use crate::mapping::FileKey;
use crate::recorder::monotonic_ns;

/// Files that are tried again; each further one counts as one that could not be opened.
const FILES_MAX: usize = 256;
/// Files tried in one round: each may hold it up for the time that an answer is waited for.
const TRIES_PER_ROUND_MAX: usize = 2;
/// Until the first and before the last try, doubled from one to the next, nanoseconds. All of them take 14 minutes.
const WAIT_MIN_NS: u64 = 50_000_000;
const WAIT_MAX_NS: u64 = 409_600_000_000;
/// The longest wait in which samples come whole, nanoseconds. It ends after 13 s.
const PENDING_WAIT_MAX_NS: u64 = 6_400_000_000;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct SlowFiles {
    files: Vec<SlowFile>,
    /// Files not tried again because too many were.
    pub(super) left_out: u64,
}

#[derive(Debug)]
struct SlowFile {
    id: UnopenedId,
    pid: u32,
    range: (u64, u64),
    inode: FileKey,
    path: String,
    /// Tried again at this time, CLOCK_MONOTONIC nanoseconds.
    after_ns: u64,
    wait_ns: u64,
}

impl SlowFiles {
    /// When the next is tried.
    pub(super) fn next_due_ns(&self) -> Option<u64> {
        self.files.iter().map(|file| file.after_ns).min()
    }

    /// What a file is while it is tried again; `None` when it is not.
    fn target(&self, id: UnopenedId) -> Option<Target> {
        self.files.iter().find(|file| file.id == id).map(SlowFile::target)
    }

    /// Takes those out whose time it is, the longest due first.
    fn take_due(&mut self, now_ns: u64) -> Vec<SlowFile> {
        self.files.sort_by_key(|file| file.after_ns);
        let due = self.files.partition_point(|file| file.after_ns <= now_ns);
        self.files.drain(..due.min(TRIES_PER_ROUND_MAX)).collect()
    }
}

impl SlowFile {
    fn target(&self) -> Target {
        let is_pending = self.wait_ns <= PENDING_WAIT_MAX_NS;
        if is_pending { Target::Slow(self.id) } else { Target::Unopened(self.id) }
    }
}

impl Processes {
    /// A file of a process that is to be tried again.
    pub(super) fn keep_slow(&mut self, pid: u32, range: (u64, u64), inode: FileKey, path: &str) -> Target {
        let id = self.unopened.keep(inode, path);
        if let Some(target) = self.slow.target(id) {
            return target;
        }
        if self.slow.files.len() >= FILES_MAX {
            self.slow.left_out += 1;
            return Target::Unopened(id);
        }
        let after_ns = monotonic_ns().saturating_add(WAIT_MIN_NS);
        let path = path.to_owned();
        self.slow.files.push(SlowFile { id, pid, range, inode, path, after_ns, wait_ns: WAIT_MIN_NS });
        Target::Slow(id)
    }

    /// Tries files again whose time it is.
    pub(super) fn open_slow(&mut self, now_ns: u64) {
        for mut file in self.slow.take_due(now_ns) {
            let SlowFile { id, pid, range: (start, end), inode, ref path, .. } = file;
            let shown = file.target();
            let relatives = self.timeline.relatives(pid);
            let source = Source { pid, start, end, path, inode, relatives: &relatives };
            let target = match self.binaries.open(&source) {
                Opened::File(binary) => Target::Binary(binary),
                Opened::Slow if file.wait_ns < WAIT_MAX_NS => {
                    file.wait_ns *= 2;
                    file.after_ns = monotonic_ns().saturating_add(file.wait_ns);
                    let target = file.target();
                    self.slow.files.push(file);
                    target
                }
                Opened::Slow | Opened::None => Target::Unopened(id),
            };
            if self.slow.target(id).is_none() {
                self.binaries.forget_slow(inode);
            }
            if target.is(&shown) {
                continue;
            }
            for generation in self.timeline.with(|mappings| mappings.is_without(id)) {
                self.show(generation, id, &target);
            }
        }
    }
}

#[cfg(test)]
mod tests;
