//! What a process runs between two execs, and the life that it is part of.

use std::sync::Arc;

use crate::process::image::ImageKey;
use crate::process::mappings::Mappings;

/// Number of a generation, never used again.
pub(in crate::process) type GenerationId = u64;

/// What a process mapped between two execs.
#[derive(Debug)]
pub(in crate::process) struct Generation {
    pub(in crate::process) pid: u32,
    pub(in crate::process) from_ns: u64,
    pub(in crate::process) ended_ns: Option<u64>,
    pub(in crate::process) mappings: Arc<Mappings>,
    /// Whether `mappings` are all there are: it began with an exec that was told, or /proc was read.
    pub(in crate::process) known: bool,
    /// Records were lost since.
    pub(in crate::process) suspect: bool,
    /// When /proc was last read.
    pub(in crate::process) read_ns: Option<u64>,
    /// What it was before that read, until the records of that time have come: an exec may have been meant.
    pub(super) before_read: Option<BeforeRead>,
    pub(in crate::process) image: Option<ImageKey>,
    /// Whether its pages are to be compared with the kernel's count.
    pub(in crate::process) checked: bool,
}

#[derive(Debug)]
pub(super) struct BeforeRead {
    /// When the read ended.
    pub(super) until_ns: u64,
    pub(super) mappings: Arc<Mappings>,
    pub(super) known: bool,
}

#[derive(Debug)]
pub(super) struct Life {
    pub(super) parent: u32,
    /// When its fork was told, or the first thing of it.
    pub(super) begun_ns: u64,
    pub(super) forked: bool,
    /// The kernel's start time, once a sample told it.
    pub(super) start_ns: Option<u64>,
    pub(super) ended_ns: Option<u64>,
    /// Living threads, if all were told.
    pub(super) threads: Option<u32>,
    /// The last is what it runs, or ran last.
    pub(super) generations: Vec<GenerationId>,
    pub(super) used_ns: u64,
}
