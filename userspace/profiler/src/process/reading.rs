//! Mappings as records and /proc give them, and when /proc is read again.

use std::path::Path;

use super::area::{Area, Target};
use super::image::{ImageKey, Wanted};
use super::start_time::started_at;
use super::timeline::GenerationId;
use super::{Processes, WAITING_MAX};
use crate::executable::{Opened, Source};
use crate::mapping::{self, Backing, FileKey};
use crate::recorder::monotonic_ns;
use crate::records::Mapped;

/// A 64-bit process has its vdso above this; below, it is that of a 32-bit process.
const COMPAT_END: u64 = 1 << 32;
/// How the path of memory begins that only a program can have filled (memfd_create(2)).
const MEMFD: &str = "/memfd:";

impl Processes {
    /// Reads mappings again whose time it is.
    pub(crate) fn read_due(&mut self) {
        let now_ns = monotonic_ns();
        let images = &self.images;
        let due = |key: &mut ImageKey| images.get(key).is_none_or(|image| image.reread.after_ns <= now_ns);
        for key in self.rereads.extract_if(.., due).collect::<Vec<_>>() {
            self.reread(&key);
        }
    }

    /// Notes a mapping that was told of.
    pub(super) fn map(&mut self, mapped: &Mapped, time_ns: u64) {
        if !self.timeline.follows(mapped.pid) {
            return;
        }
        let Mapped { pid, start, end, file_offset, writable, ref path, .. } = *mapped;
        let backing = Backing::of(path, mapped.inode.unwrap_or_default());
        let mapping = mapping::Mapping { start, end, file_offset, writable, backing };
        let mut area = self.area(pid, mapping, time_ns);
        area.cut_at_segment_end(self.page_bytes);
        if area.start < area.end {
            self.timeline.map(pid, area);
        }
    }

    fn area(&mut self, pid: u32, mapping: mapping::Mapping, from_ns: u64) -> Area {
        let mapping::Mapping { start, end, file_offset, writable, .. } = mapping;
        let target = match &mapping.backing {
            Backing::File { path, inode } => match self.open(pid, &mapping, path, *inode) {
                Opened::File(binary) if binary.has_code() || !path.starts_with(MEMFD) => {
                    Target::Binary(binary)
                }
                _ if path.starts_with(MEMFD) => Target::Anonymous,
                Opened::File(_) => Target::Opaque,
                Opened::Slow => self.keep_slow(pid, (start, end), *inode, path),
                Opened::None => Target::Unopened(self.unopened.keep(*inode, path)),
            },
            Backing::Vdso if end <= COMPAT_END => Target::Opaque,
            Backing::Vdso => self.binaries.vdso().map_or(Target::Opaque, Target::Binary),
            Backing::Anonymous => Target::Anonymous,
            Backing::Vsyscall => Target::Opaque,
        };
        Area { start, end, file_offset, target, counted: !writable, from_ns, to_ns: u64::MAX }
    }

    fn open(&mut self, pid: u32, mapping: &mapping::Mapping, path: &str, inode: FileKey) -> Opened {
        if let Some(binary) = self.binaries.held(inode, path) {
            return Opened::File(binary);
        }
        let relatives = self.timeline.relatives(pid);
        let (start, end) = (mapping.start, mapping.end);
        self.binaries.open(&Source { pid, start, end, path, inode, relatives: &relatives })
    }

    /// Reads an image's mappings again, at once or when it is time. True when they were read and showed anything new.
    pub(super) fn want_reread(&mut self, key: &ImageKey, wanted: Wanted) -> bool {
        let Some(image) = self.images.get(key) else {
            return false;
        };
        let Some(id) = image.generation.filter(|id| self.timeline.is_running(*id)) else {
            return false;
        };
        if self.was_read_after(id, wanted.time_ns) {
            return false;
        }
        let Some(image) = self.images.get_mut(key) else {
            return false;
        };
        let is_first = image.reread.want(wanted);
        if image.reread.after_ns <= monotonic_ns() {
            return self.reread(key);
        }
        if is_first && self.rereads.len() < WAITING_MAX {
            self.rereads.push(*key);
        } else if is_first {
            image.reread.wanted = None;
            self.not_waited_for += 1;
        }
        false
    }

    /// True when anything new was read.
    fn reread(&mut self, key: &ImageKey) -> bool {
        let Some(image) = self.images.get(key) else {
            return false;
        };
        let Some(wanted) = image.reread.wanted else {
            return false;
        };
        let readable = image
            .generation
            .filter(|id| self.timeline.is_running(*id) && !self.was_read_after(*id, wanted.time_ns));
        let (Some(id), Some(pid)) = (readable, image.pid) else {
            if let Some(image) = self.images.get_mut(key) {
                image.reread.wanted = None;
            }
            return false;
        };
        let helped = self.read_mappings(pid, id, key.start_time_ns);
        let Some(image) = self.images.get_mut(key) else {
            return false;
        };
        let uncheck = image.reread.done(monotonic_ns(), helped);
        if let Some(generation) = self.timeline.get_mut(id).filter(|it| uncheck && it.checked) {
            generation.checked = false;
            self.unchecked += 1;
            self.timeline.changed.insert(*key);
        }
        helped
    }

    /// Whether /proc already showed what a sample of that moment met, and nothing was lost since.
    fn was_read_after(&self, id: GenerationId, time_ns: u64) -> bool {
        let sure = self.timeline.get(id).filter(|generation| generation.known && !generation.suspect);
        sure.and_then(|generation| generation.read_ns).is_some_and(|read_ns| read_ns >= time_ns)
    }

    /// Reads /proc; true when it shows anything new.
    fn read_mappings(&mut self, pid: u32, id: GenerationId, start_time_ns: u64) -> bool {
        self.maps_read += 1;
        let read_ns = monotonic_ns();
        let mappings = match mapping::read(pid) {
            Ok(mappings) if !mappings.is_empty() && started_at(pid, start_time_ns) => mappings,
            // A process that ends has no mappings any more: what was known of it stays.
            Ok(_) | Err(_) => {
                self.maps_unreadable += 1;
                if !Path::new("/proc").join(pid.to_string()).exists() {
                    self.timeline.end_life(pid, read_ns);
                }
                return false;
            }
        };
        let until_ns = monotonic_ns();
        // The file is read page by page: what moved in between may be there twice. The vsyscall page is no
        // mapping of the process's own, and no record tells of it.
        let mut end = 0;
        let ordered = mappings.into_iter().filter(|mapping| {
            let follows = mapping.start >= end;
            end = end.max(mapping.end);
            follows && mapping.backing != Backing::Vsyscall
        });
        let areas = ordered.map(|mapping| self.area(pid, mapping, read_ns)).collect();
        self.timeline.replace(id, (read_ns, until_ns), areas)
    }
}
