//! One budget of pages, shared by tables and layouts.

use std::sync::atomic::{Ordering, fence};
use std::time::Instant;

use abi::Executable;

use super::kernel::Kernel;
use crate::Error;
use crate::pages::Pool;

/// Layouts have at most this part of the budget; tables give way up to it.
const LAYOUTS_PART: usize = 4;
/// This part of the budget is kept free of tables, so that a layout need not wait for one to go.
const RESERVE_PART: usize = 16;
/// Pages in quarantine beyond this part of the budget keep further tables from being evicted.
const QUARANTINE_PART: usize = 8;

/// The pool, who has how much of it, and the kernel that reads it.
pub(super) struct Memory {
    pub(super) kernel: Box<dyn Kernel>,
    pub(super) pool: Pool,
    pub(super) table_pages: usize,
    pub(super) layout_pages: usize,
}

impl Memory {
    pub(super) fn new(kernel: Box<dyn Kernel>, budget_bytes: u64) -> Self {
        Self { kernel, pool: Pool::new(budget_bytes), table_pages: 0, layout_pages: 0 }
    }

    /// Pages that layouts may have.
    pub(super) fn layouts_max(&self) -> usize {
        self.pool.capacity() / LAYOUTS_PART
    }

    /// Pages that are to stay free of tables, now that layouts have what they have.
    pub(super) fn reserve(&self) -> usize {
        (self.pool.capacity() / RESERVE_PART).min(self.layouts_max().saturating_sub(self.layout_pages))
    }

    /// Pages of the largest table that is let in.
    pub(super) fn table_max(&self) -> usize {
        self.pool.capacity().saturating_sub(self.layout_pages + self.reserve())
    }

    /// Pages in quarantine from which on nothing more is evicted for new tables.
    pub(super) fn quarantine_max(&self) -> usize {
        self.pool.capacity() / QUARANTINE_PART
    }

    /// Pages that a table can have at once.
    pub(super) fn table_room(&self) -> usize {
        self.pool.available().saturating_sub(self.reserve())
    }

    /// Pages that a table can have when the quarantine is over.
    pub(super) fn table_room_soon(&self) -> usize {
        (self.pool.available() + self.pool.quarantined()).saturating_sub(self.reserve())
    }

    /// Pages that must become free for the reserve to be whole once the quarantine is over.
    pub(super) fn reserve_missing(&self) -> usize {
        self.reserve().saturating_sub(self.pool.available() + self.pool.quarantined())
    }

    pub(super) fn allocate_table(&mut self, pages: usize, now: Instant) -> Option<Vec<u32>> {
        if pages > self.table_room() {
            return None;
        }
        let given = self.pool.allocate(pages, now, |number| self.kernel.add_chunk(number))?;
        self.table_pages += given.len();
        Some(given)
    }

    pub(super) fn allocate_layout(&mut self, pages: usize, now: Instant) -> Option<Vec<u32>> {
        if self.layout_pages + pages > self.layouts_max() {
            return None;
        }
        let given = self.pool.allocate(pages, now, |number| self.kernel.add_chunk(number))?;
        self.layout_pages += given.len();
        Some(given)
    }

    /// Takes a table's pages back; its executable must not be READY any more.
    pub(super) fn free_table(&mut self, pages: Vec<u32>, now: Instant) {
        self.table_pages -= pages.len();
        self.pool.free(pages, now);
    }

    /// Takes a layout's pages back; no image may lead to them any more.
    pub(super) fn free_layout(&mut self, pages: Vec<u32>, now: Instant) {
        self.layout_pages -= pages.len();
        self.pool.free(pages, now);
    }

    /// Makes a table known whose pages are written. An array's value is not replaced at once, so the state
    /// follows in a second update: a program that sees it sees the rest.
    pub(super) fn show_executable(&mut self, slot: u32, executable: &Executable) -> Result<(), Error> {
        fence(Ordering::SeqCst);
        self.kernel.set_executable(slot, &Executable { state: abi::EXECUTABLE_PENDING, ..*executable })?;
        self.kernel.set_executable(slot, executable)
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Memory").field("pool", &self.pool).finish_non_exhaustive()
    }
}
