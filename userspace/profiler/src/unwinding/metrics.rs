//! What the unwind tables report of themselves.

use abi::{EXECUTABLE_EVICTED, EXECUTABLE_PENDING, EXECUTABLE_READY, EXECUTABLE_UNREADABLE, PAGE_BYTES};

use super::Tables;
use super::table::Failure;

/// Gauges and counters of tables and layouts; counters since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableMetrics {
    /// Bytes of pages that hold tables.
    pub(crate) table_bytes: u64,
    /// Bytes of pages that hold layouts.
    pub(crate) layout_bytes: u64,
    /// Bytes of freed pages that kernel programs may still read.
    pub(crate) quarantine_bytes: u64,
    /// Bytes of pages that are there and wait to be used.
    pub(crate) free_bytes: u64,
    /// Bytes of all pages taken from the kernel; never fewer again.
    pub(crate) memory_bytes: u64,
    /// Executables by the state of their table.
    pub(crate) ready: usize,
    pub(crate) pending: usize,
    pub(crate) evicted: usize,
    pub(crate) unreadable: usize,
    /// Files that wait to be read.
    pub(crate) queued: usize,
    /// Tables that wait for pages to leave the quarantine.
    pub(crate) waiting: usize,
    /// Process images whose layout the kernel knows.
    pub(crate) images: usize,
    /// Tables evicted.
    pub(crate) evictions: u64,
    /// Times a new table went without because all others were in use.
    pub(crate) without_room: u64,
    /// Times a table was larger than the budget.
    pub(crate) too_large: u64,
    /// Files read, and those of them without a table by reason. [`Failure::Closed`] was never read.
    pub(crate) builds: u64,
    pub(crate) builds_failed: Vec<(&'static str, u64)>,
    /// Times a file found the queue full.
    pub(crate) queue_full: u64,
    /// Chunks that the kernel refused.
    pub(crate) chunks_refused: u64,
    pub(crate) layouts_written: u64,
    /// Times an image took a layout that was written for another one.
    pub(crate) layouts_shared: u64,
    pub(crate) layouts_without_room: u64,
    /// Layouts with more mappings than are kept.
    pub(crate) layouts_cut: u64,
    pub(crate) images_evicted: u64,
    /// Images of whose samples none could be unwound for want of mappings.
    pub(crate) images_given_up: u64,
    /// Tables of files that were not read to the end, or not in every part.
    pub(crate) incomplete: u64,
}

impl Tables {
    /// The present values.
    pub(crate) fn metrics(&self) -> TableMetrics {
        let Self { memory, executables, layouts, builders, .. } = self;
        let bytes = |pages: usize| (pages * PAGE_BYTES) as u64;
        TableMetrics {
            table_bytes: bytes(memory.table_pages),
            layout_bytes: bytes(memory.layout_pages),
            quarantine_bytes: bytes(memory.pool.quarantined()),
            free_bytes: memory.pool.free_bytes(),
            memory_bytes: memory.pool.memory_bytes(),
            ready: executables.count(EXECUTABLE_READY),
            pending: executables.count(EXECUTABLE_PENDING),
            evicted: executables.count(EXECUTABLE_EVICTED),
            unreadable: executables.count(EXECUTABLE_UNREADABLE),
            queued: builders.queued(),
            waiting: self.waiting.len(),
            images: layouts.images(),
            evictions: executables.evictions,
            without_room: executables.without_room,
            too_large: executables.too_large,
            builds: executables.builds,
            builds_failed: Failure::ALL
                .iter()
                .map(|failure| (failure.name(), executables.builds_failed[*failure as usize]))
                .collect(),
            queue_full: self.queue_full,
            chunks_refused: memory.pool.chunks_refused,
            layouts_written: layouts.layouts_written,
            layouts_shared: layouts.layouts_shared,
            layouts_without_room: layouts.without_room,
            layouts_cut: layouts.cut,
            images_evicted: layouts.images_evicted,
            images_given_up: layouts.given_up,
            incomplete: executables.incomplete,
        }
    }
}
