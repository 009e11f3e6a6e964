//! One executable range of a process's memory, and when it was there.

use std::sync::Arc;

use super::unopened::UnopenedId;
use crate::executable::Binary;

/// What lies there.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Binary(Arc<Binary>),
    /// Code made at run time.
    Anonymous,
    /// A file that did not let itself be opened in time, and is tried again.
    Slow(UnopenedId),
    /// A file that could not be opened, and may be found later.
    Unopened(UnopenedId),
    /// Nothing that has names.
    Opaque,
}

impl Target {
    /// Whether it is this file, which is not open.
    pub(super) fn is_unopened(&self, id: UnopenedId) -> bool {
        matches!(self, Self::Slow(unopened) | Self::Unopened(unopened) if *unopened == id)
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Binary(one), Self::Binary(other)) => one.id == other.id,
            (Self::Slow(one), Self::Slow(other)) | (Self::Unopened(one), Self::Unopened(other)) => {
                one == other
            }
            (Self::Anonymous, Self::Anonymous) | (Self::Opaque, Self::Opaque) => true,
            _ => false,
        }
    }
}

/// An executable range; all times are CLOCK_MONOTONIC nanoseconds.
#[derive(Debug, Clone)]
pub(super) struct Area {
    pub(super) start: u64,
    /// Exclusive.
    pub(super) end: u64,
    /// Where in the file `start` lies, bytes; of no meaning without a file.
    pub(super) file_offset: u64,
    pub(super) target: Target,
    /// Whether the kernel counts its pages in `mm->exec_vm`: executable and not writable
    /// (mm/internal.h, `is_exec_mapping`).
    pub(super) counted: bool,
    pub(super) from_ns: u64,
    /// Exclusive; `u64::MAX` while it is there.
    pub(super) to_ns: u64,
}

impl Area {
    /// The piece from `start` to `end`, both inside.
    pub(super) fn piece(&self, start: u64, end: u64) -> Self {
        let file_offset = self.file_offset.wrapping_add(start - self.start);
        Self { start, end, file_offset, ..self.clone() }
    }

    /// Whether an address shows the same in both.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        let in_file = matches!(self.target, Target::Binary(_) | Target::Slow(_) | Target::Unopened(_));
        let aligned = !in_file
            || self.file_offset.wrapping_sub(self.start) == other.file_offset.wrapping_sub(other.start);
        self.target.is(&other.target) && self.counted == other.counted && aligned
    }

    /// The loader maps a library's whole length at first and the other segments over it, which is told only of
    /// executable ones (elf/dl-map-segments.h of glibc, fs/binfmt_elf.c).
    pub(super) fn cut_at_segment_end(&mut self, page_bytes: u64) {
        if let Target::Binary(binary) = &self.target
            && let Some(segment_end) = binary.segment_end(self.file_offset, page_bytes)
        {
            let bytes = segment_end.saturating_sub(self.file_offset);
            self.end = self.end.min(self.start.saturating_add(bytes));
        }
    }

    pub(super) fn holds(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }

    pub(super) fn is_there_at(&self, time_ns: u64) -> bool {
        (self.from_ns..self.to_ns).contains(&time_ns)
    }
}
