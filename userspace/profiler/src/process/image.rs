//! A process image: what a process runs between two execs.

use std::time::Instant;

use super::timeline::GenerationId;

/// Between two reads of one image's mappings from /proc: doubled from the first to the second while it does not
/// help, nanoseconds.
pub(super) const REREAD_MIN_NS: u64 = 20_000_000;
pub(super) const REREAD_MAX_NS: u64 = 10_000_000_000;
/// Layouts that are out of date, and are what /proc shows, in a row: the kernel counts otherwise.
const STALE_READS_MAX: u32 = 3;

/// Identity of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ImageKey {
    pub(crate) tgid: u32,
    pub(crate) exec_id: u32,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub(crate) start_time_ns: u64,
}

/// What a stack says about its process.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) key: ImageKey,
    /// The process id to look it up with in /proc; `None` when it is out of this process's sight.
    pub(crate) pid: Option<u32>,
    pub(crate) name: String,
    pub(crate) kernel_thread: bool,
    /// The sample met the process inside exec, or at its end.
    pub(crate) in_exec: bool,
    /// CLOCK_MONOTONIC of the sample, nanoseconds, where it is told.
    pub(crate) time_ns: Option<u64>,
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
    /// Its mappings; `None` while it is not known which they are, or when they are not to be had.
    pub(super) generation: Option<GenerationId>,
    /// Waits for the records up to this sample, to know which mappings are its own.
    pub(super) waits_for_ns: Option<u64>,
    pub(super) reread: Reread,
    /// Identity and page count of the layout that was told last.
    pub(super) told: Option<(u64, u64)>,
    /// When that was; the kernel compared samples of before with another.
    pub(super) told_ns: u64,
    /// Samples since then that came whole and could not be unwound for want of mappings.
    pub(super) in_vain: u32,
}

/// When an image's mappings are read again.
#[derive(Debug)]
pub(super) struct Reread {
    /// Not before.
    pub(super) after_ns: u64,
    pub(super) wait_ns: u64,
    /// The youngest sample that asks for it.
    pub(super) wanted: Option<Wanted>,
    stale_in_vain: u32,
}

/// Why mappings are to be read again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// Of the sample.
    pub(super) time_ns: u64,
    /// The kernel counts other pages than the layout has.
    pub(super) stale: bool,
}

impl Image {
    pub(super) fn new(number: u32, seen: Seen) -> Self {
        Self {
            number,
            key: seen.key,
            pid: seen.pid,
            name: seen.name,
            kernel_thread: seen.kernel_thread,
            last_seen: Instant::now(),
            generation: None,
            waits_for_ns: None,
            reread: Reread { after_ns: 0, wait_ns: REREAD_MIN_NS, wanted: None, stale_in_vain: 0 },
            told: None,
            told_ns: 0,
            in_vain: 0,
        }
    }

    /// As this process sees it, else as the initial PID namespace does.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.unwrap_or(self.key.tgid)
    }
}

impl Reread {
    /// Asks for another read; false when one was asked for already.
    pub(super) fn want(&mut self, wanted: Wanted) -> bool {
        let Some(known) = &mut self.wanted else {
            self.wanted = Some(wanted);
            return true;
        };
        known.time_ns = known.time_ns.max(wanted.time_ns);
        known.stale |= wanted.stale;
        false
    }

    /// Notes a read and whether it showed anything new. True when the kernel's count of pages is not to be
    /// compared any more.
    pub(super) fn done(&mut self, now_ns: u64, helped: bool) -> bool {
        let stale = self.wanted.take().is_some_and(|wanted| wanted.stale);
        self.wait_ns = if helped { REREAD_MIN_NS } else { (self.wait_ns * 2).min(REREAD_MAX_NS) };
        self.after_ns = now_ns.saturating_add(self.wait_ns);
        self.stale_in_vain = if helped { 0 } else { self.stale_in_vain + u32::from(stale) };
        self.stale_in_vain >= STALE_READS_MAX
    }
}
