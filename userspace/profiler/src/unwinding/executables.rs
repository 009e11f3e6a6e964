//! Each slot's table: wanted, built, let in, evicted, let go.

mod placing;

use std::time::{Duration, Instant};

use abi::{
    EXECUTABLE_EVICTED, EXECUTABLE_PENDING, EXECUTABLE_READY, EXECUTABLE_UNREADABLE, EXECUTABLES_MAX,
    Executable,
};

use super::memory::Memory;
use super::table::Failure;
use crate::Error;
use crate::pages::QUARANTINE;
pub(super) use placing::Placed;

/// A table that was used within this time is not evicted for another: stacks are drained every second or two.
pub(super) const USED_LATELY: Duration = Duration::from_secs(4);
/// An evicted table is built again at most once in this many intervals.
const REBUILD_INTERVALS: u64 = 3;

/// All slots.
#[derive(Debug, Default)]
pub(super) struct Executables {
    slots: Vec<Option<Entry>>,
    /// Released slots, with the time from which their entry may be cleared.
    released: Vec<(Instant, u32)>,
    interval: u64,
    pub(super) evictions: u64,
    /// Tables that went without, because all others were in use.
    pub(super) without_room: u64,
    /// Tables larger than the budget.
    pub(super) too_large: u64,
    pub(super) builds: u64,
    /// Of them, tables from which a limit or a malformed entry left anything out.
    pub(super) incomplete: u64,
    pub(super) builds_failed: [u64; Failure::ALL.len()],
}

/// One executable.
#[derive(Debug)]
struct Entry {
    /// Of the binary; slots are used again, ids are not.
    id: u64,
    /// The build that goes on, or the table that waits for room.
    ticket: Option<u64>,
    /// As the kernel has it.
    shown: Executable,
    pages: Vec<u32>,
    /// Pages that the table takes or would take; 0 before the first build.
    needed: usize,
    used_at: Instant,
    used_interval: u64,
    /// Evicted: the interval from which it may be tried again.
    retry_interval: u64,
    /// Before this a program may still hold the entry's last READY fields.
    settled_at: Instant,
    released: bool,
}

/// What is to be done about a wanted executable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// It is known, and nothing is to be done.
    Known,
    /// To be queued.
    Build,
    /// The slot still has another binary's table, which goes first; its build is to be cancelled.
    Released(Option<u64>),
}

impl Executables {
    pub(super) fn state(&self, slot: u32) -> u32 {
        self.entry(slot).map_or(EXECUTABLE_PENDING, |entry| entry.shown.state)
    }

    /// The entry as the kernel has it.
    pub(super) fn shown(&self, slot: u32) -> Executable {
        self.entry(slot).map(|entry| entry.shown).unwrap_or_default()
    }

    pub(super) fn used(&mut self, slot: u32, now: Instant) {
        let interval = self.interval;
        if let Some(entry) = self.entry_mut(slot) {
            entry.used_at = now;
            entry.used_interval = interval;
        }
    }

    pub(super) fn end_interval(&mut self) {
        self.interval += 1;
    }

    /// Notes that an executable was sampled, and says whether it is to be built.
    pub(super) fn want(
        &mut self,
        slot: u32,
        id: u64,
        memory: &mut Memory,
        now: Instant,
    ) -> Result<Want, Error> {
        if slot == 0 || slot >= EXECUTABLES_MAX {
            return Ok(Want::Known);
        }
        if let Some(entry) = self.entry(slot)
            && entry.id != id
        {
            let in_use = entry.shown.state == EXECUTABLE_READY || entry.settled_at > now;
            if in_use {
                // A program may still follow the old table: the slot is free a second from now.
                return self.release(slot, memory, now).map(Want::Released);
            }
            self.clear(slot, memory, now);
        }
        self.used(slot, now);
        let interval = self.interval;
        let Some(entry) = self.entry(slot) else {
            return Ok(Want::Build);
        };
        if entry.ticket.is_some()
            || entry.shown.state != EXECUTABLE_EVICTED
            || entry.retry_interval > interval
            || entry.released
        {
            return Ok(Want::Known);
        }
        if entry.needed <= memory.table_room_soon() + self.idle_pages(now) {
            return Ok(Want::Build);
        }
        // Asked again in the next interval, not at each sample.
        if let Some(entry) = self.entry_mut(slot) {
            entry.retry_interval = interval + 1;
        }
        Ok(Want::Known)
    }

    /// Notes that a build was queued.
    pub(super) fn begun(&mut self, slot: u32, id: u64, ticket: u64, now: Instant) {
        let interval = self.interval;
        let index = slot as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        let Some(place) = self.slots.get_mut(index) else {
            return;
        };
        let entry = place.get_or_insert_with(|| Entry {
            id,
            ticket: None,
            shown: Executable::default(),
            pages: Vec::new(),
            needed: 0,
            used_at: now,
            used_interval: interval,
            retry_interval: 0,
            settled_at: now,
            released: false,
        });
        entry.ticket = Some(ticket);
    }

    /// The ticket of a slot's build, if one goes on.
    pub(super) fn ticket(&self, slot: u32) -> Option<u64> {
        self.entry(slot).and_then(|entry| entry.ticket)
    }

    /// A build that could not be queued after all; it is wanted again when it is sampled again.
    pub(super) fn refused(&mut self, slot: u32) {
        let Some(entry) = self.entry_mut(slot) else {
            return;
        };
        entry.ticket = None;
        if entry.shown.state == EXECUTABLE_PENDING && !entry.released {
            self.slots[slot as usize] = None;
        }
    }

    /// No table can be built of this executable.
    pub(super) fn failed(&mut self, slot: u32, failure: Failure, memory: &mut Memory) -> Result<(), Error> {
        self.builds_failed[failure as usize] += 1;
        let Some(entry) = self.entry_mut(slot) else {
            return Ok(());
        };
        entry.ticket = None;
        entry.shown.state = EXECUTABLE_UNREADABLE;
        memory.kernel.set_executable(slot, &entry.shown)
    }

    /// The binary of a slot was let go: its pages go at once, its entry is cleared when nobody reads it any more.
    /// Returns the ticket of a build to be cancelled.
    pub(super) fn release(
        &mut self,
        slot: u32,
        memory: &mut Memory,
        now: Instant,
    ) -> Result<Option<u64>, Error> {
        let Some(entry) = self.entry_mut(slot) else {
            return Ok(None);
        };
        let ticket = entry.ticket.take();
        if entry.released {
            return Ok(ticket);
        }
        entry.released = true;
        let ready = entry.shown.state == EXECUTABLE_READY;
        let hidden = if ready { self.hide(slot, memory, now) } else { Ok(()) };
        self.released.push((now + QUARANTINE, slot));
        hidden.map(|()| ticket)
    }

    /// Clears entries of slots that were released a while ago.
    pub(super) fn clear_released(&mut self, memory: &mut Memory, now: Instant) {
        let due: Vec<u32> =
            self.released.extract_if(.., |(at, _)| *at <= now).map(|(_, slot)| slot).collect();
        for slot in due {
            self.clear(slot, memory, now);
        }
    }

    /// When [`Self::clear_released`] has something to do.
    pub(super) fn next_cleared_at(&self) -> Option<Instant> {
        self.released.iter().map(|(at, _)| *at).min()
    }

    /// How many slots are in a state.
    pub(super) fn count(&self, state: u32) -> usize {
        self.slots.iter().flatten().filter(|entry| entry.shown.state == state && !entry.released).count()
    }

    /// Takes a READY table's state away first, then its pages.
    fn hide(&mut self, slot: u32, memory: &mut Memory, now: Instant) -> Result<(), Error> {
        let retry_interval = self.interval + REBUILD_INTERVALS;
        let Some(entry) = self.entry_mut(slot) else {
            return Ok(());
        };
        // The other fields stay: a program that read the state a moment ago reads them next.
        let hidden = Executable { state: EXECUTABLE_EVICTED, ..entry.shown };
        memory.kernel.set_executable(slot, &hidden)?;
        entry.shown = hidden;
        entry.settled_at = now + QUARANTINE;
        entry.retry_interval = retry_interval;
        memory.free_table(std::mem::take(&mut entry.pages), now);
        Ok(())
    }

    /// Forgets a slot altogether.
    fn clear(&mut self, slot: u32, memory: &mut Memory, now: Instant) {
        self.released.retain(|(_, released)| *released != slot);
        let Some(entry) = self.slots.get_mut(slot as usize).and_then(Option::take) else {
            return;
        };
        // An update of an array in bounds does not fail; if it did, the slot's next table would follow anyway.
        if let Err(error) = memory.kernel.set_executable(slot, &Executable::default()) {
            tracing::warn!("clear the unwind table of slot {slot}: {error}");
        }
        memory.free_table(entry.pages, now);
    }

    fn is_idle(&self, entry: &Entry, now: Instant) -> bool {
        entry.used_interval != self.interval && now.duration_since(entry.used_at) >= USED_LATELY
    }

    /// Pages of tables that may be evicted.
    fn idle_pages(&self, now: Instant) -> usize {
        let ready = self.slots.iter().flatten().filter(|entry| entry.shown.state == EXECUTABLE_READY);
        ready.filter(|entry| self.is_idle(entry, now)).map(|entry| entry.pages.len()).sum()
    }

    fn entry(&self, slot: u32) -> Option<&Entry> {
        self.slots.get(slot as usize)?.as_ref()
    }

    fn entry_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }
}
