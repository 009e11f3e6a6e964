//! One executable range of a process's memory, and when it was there.

use std::sync::Arc;

use crate::executable::Binary;

/// What lies there.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Binary(Arc<Binary>),
    /// Code made at run time.
    Anonymous,
    /// A file that could not be opened.
    Opaque,
}

impl Target {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Binary(one), Self::Binary(other)) => one.id == other.id,
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
        let aligned = !matches!(self.target, Target::Binary(_))
            || self.file_offset.wrapping_sub(self.start) == other.file_offset.wrapping_sub(other.start);
        self.target.is(&other.target) && self.counted == other.counted && aligned
    }

    pub(super) fn holds(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }

    pub(super) fn is_there_at(&self, time_ns: u64) -> bool {
        (self.from_ns..self.to_ns).contains(&time_ns)
    }
}
