//! Letting built tables in: into free pages, or into those of tables that are used less.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use abi::{EXECUTABLE_EVICTED, EXECUTABLE_READY, Page};

use super::super::memory::Memory;
use super::super::table::{Failure, Table};
use super::{Entry, Executables, REBUILD_INTERVALS};
use crate::Error;

/// What became of a table that was to be let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::unwinding) enum Placed {
    /// Written and shown.
    Ready,
    /// It has none, for one reason or another.
    Without,
    /// There will be room for it.
    Waits,
    /// Pages must leave the quarantine before anybody may go.
    Blocked,
}

impl Executables {
    /// Lets a table in if there is room, or makes room if that is fair. `claimed` pages are for tables that came
    /// before and wait.
    pub(in crate::unwinding) fn place(
        &mut self,
        slot: u32,
        table: &dyn Table,
        claimed: usize,
        memory: &mut Memory,
        now: Instant,
    ) -> Result<Placed, Error> {
        let needed = table.pages();
        let Some(entry) = self.entry_mut(slot) else {
            return Ok(Placed::Without);
        };
        entry.needed = needed;
        let settled = entry.settled_at <= now;
        if needed > memory.table_max() {
            self.too_large += 1;
            return self.without(slot, memory);
        }
        let soon = memory.table_room_soon().saturating_sub(claimed);
        if needed <= soon {
            if !settled || needed > memory.table_room() {
                return Ok(Placed::Waits);
            }
            return match memory.allocate_table(needed, now) {
                Some(pages) => self.write(slot, table, pages, memory, now),
                // The kernel refused to add memory: the pool is smaller from now on.
                None => self.place(slot, table, claimed, memory, now),
            };
        }
        let Some(victims) = self.victims(needed - soon, now) else {
            self.without_room += 1;
            return self.without(slot, memory);
        };
        let leaving: usize = victims.iter().map(|slot| self.pages(*slot)).sum();
        let quarantined = memory.pool.quarantined();
        if quarantined > 0 && quarantined + leaving > memory.quarantine_max() {
            return Ok(Placed::Blocked);
        }
        for victim in victims {
            self.evict(victim, memory, now)?;
        }
        Ok(Placed::Waits)
    }

    /// Evicts tables, used ones too, until layouts have their reserve again.
    pub(in crate::unwinding) fn give_way(
        &mut self,
        memory: &mut Memory,
        now: Instant,
    ) -> Result<bool, Error> {
        let mut missing = memory.reserve_missing();
        if missing == 0 {
            return Ok(false);
        }
        let mut gone = false;
        for slot in self.least_recently_used(|_| true) {
            if missing == 0 {
                break;
            }
            missing = missing.saturating_sub(self.pages(slot));
            self.evict(slot, memory, now)?;
            gone = true;
        }
        Ok(gone)
    }

    fn write(
        &mut self,
        slot: u32,
        table: &dyn Table,
        pages: Vec<u32>,
        memory: &mut Memory,
        now: Instant,
    ) -> Result<Placed, Error> {
        let mut write = |page: u32, words: &Page| memory.pool.write(page, words);
        let filled = catch_unwind(AssertUnwindSafe(|| table.fill(&pages, &mut write)));
        let shown = match filled {
            Ok(Some(shown)) if shown.state == EXECUTABLE_READY => shown,
            Ok(_) | Err(_) => {
                let failure = if filled.is_err() { Failure::Panicked } else { Failure::NotPacked };
                memory.free_table(pages, now);
                return self.failed(slot, failure, memory).map(|()| Placed::Without);
            }
        };
        if let Err(error) = memory.show_executable(slot, &shown) {
            memory.free_table(pages, now);
            return self.failed(slot, Failure::Kernel, memory).and(Err(error));
        }
        if let Some(entry) = self.entry_mut(slot) {
            entry.ticket = None;
            entry.shown = shown;
            entry.pages = pages;
        }
        Ok(Placed::Ready)
    }

    /// The new table goes without.
    fn without(&mut self, slot: u32, memory: &mut Memory) -> Result<Placed, Error> {
        let retry_interval = self.interval + REBUILD_INTERVALS;
        if let Some(entry) = self.entry_mut(slot) {
            entry.ticket = None;
            entry.retry_interval = retry_interval;
            entry.shown.state = EXECUTABLE_EVICTED;
            memory.kernel.set_executable(slot, &entry.shown)?;
        }
        Ok(Placed::Without)
    }

    fn evict(&mut self, slot: u32, memory: &mut Memory, now: Instant) -> Result<(), Error> {
        self.evictions += 1;
        self.hide(slot, memory, now)
    }

    /// Tables not used lately, oldest first, that free at least so many pages; `None` if all together do not.
    fn victims(&self, pages: usize, now: Instant) -> Option<Vec<u32>> {
        let mut victims = Vec::new();
        let mut freed = 0;
        for slot in self.least_recently_used(|entry| self.is_idle(entry, now)) {
            if freed >= pages {
                break;
            }
            freed += self.pages(slot);
            victims.push(slot);
        }
        (freed >= pages).then_some(victims)
    }

    fn least_recently_used(&self, which: impl Fn(&Entry) -> bool) -> Vec<u32> {
        let ready = self.slots.iter().zip(0u32..).filter_map(|(entry, slot)| Some((entry.as_ref()?, slot)));
        let mut found: Vec<(Instant, u32)> = ready
            .filter(|(entry, _)| entry.shown.state == EXECUTABLE_READY && which(entry))
            .map(|(entry, slot)| (entry.used_at, slot))
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, slot)| slot).collect()
    }

    fn pages(&self, slot: u32) -> usize {
        self.entry(slot).map_or(0, |entry| entry.pages.len())
    }
}
