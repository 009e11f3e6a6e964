//! Unwind tables and layouts as the kernel programs have them: what is sampled is built in threads of its own,
//! written to pages within one budget, and evicted when something newer needs the room.

mod builders;
mod executables;
#[cfg(test)]
mod fake;
mod kernel;
mod layouts;
mod memory;
mod metrics;
mod table;

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Instant;

use symbolizer::Executable;

use crate::Error;
use crate::executable::Binary;
use crate::process::{ImageKey, Layout};
use builders::{Builders, Built, Held, Job, Limits, Outcome};
use executables::{Executables, Placed, Want};
use layouts::Layouts;
use memory::Memory;
use table::{Failure, Read, Size, Table};

pub(crate) use kernel::{Chunk, Kernel};
pub(crate) use metrics::TableMetrics;

/// Files that wait for the two threads; each of them is held open.
const LIMITS: Limits = Limits { ordinary: 2048, large: 64 };

/// Tables and layouts of everything that is sampled.
pub(crate) struct Tables {
    memory: Memory,
    executables: Executables,
    layouts: Layouts,
    builders: Builders,
    /// Built tables that wait for pages, in the order in which they came.
    waiting: VecDeque<Waiting>,
    last_ticket: u64,
    queue_full: u64,
    clock: Box<dyn Fn() -> Instant + Send>,
    /// The time of the last poll.
    now: Instant,
}

struct Waiting {
    slot: u32,
    ticket: u64,
    table: Box<dyn Table>,
    held: Held,
}

impl Tables {
    /// Starts the builder threads; pages are taken from the kernel as they are needed, up to `budget_bytes`.
    ///
    /// # Errors
    /// A thread or an eventfd cannot be had.
    pub(crate) fn new(kernel: Box<dyn Kernel>, budget_bytes: u64) -> Result<Self, Error> {
        let clock = Box::new(Instant::now);
        Self::with(kernel, budget_bytes, Box::new(table::read), Box::new(table::size), LIMITS, clock)
    }

    fn with(
        kernel: Box<dyn Kernel>,
        budget_bytes: u64,
        read: Box<Read>,
        size: Box<Size>,
        limits: Limits,
        clock: Box<dyn Fn() -> Instant + Send>,
    ) -> Result<Self, Error> {
        Ok(Self {
            memory: Memory::new(kernel, budget_bytes),
            executables: Executables::default(),
            layouts: Layouts::default(),
            builders: Builders::start(read, size, limits)?,
            waiting: VecDeque::new(),
            last_ticket: 0,
            queue_full: 0,
            now: clock(),
            clock,
        })
    }

    /// An executable was sampled: its table is built if there is none, and counts as used. When the queue of
    /// builds is full nothing happens, the next sample asks again.
    pub(crate) fn want(&mut self, binary: &Arc<Binary>) {
        self.want_file(binary.slot, binary.id, || binary.open_file());
    }

    fn want_file(&mut self, slot: u32, id: u64, open: impl FnOnce() -> Option<Arc<Executable>>) {
        self.now = (self.clock)();
        let wanted = self.executables.want(slot, id, &mut self.memory, self.now);
        match wanted {
            Ok(Want::Known) => {}
            Ok(Want::Released(ticket)) => self.cancel(ticket),
            Ok(Want::Build) => self.build(slot, id, open()),
            Err(error) => report(slot, &error),
        }
    }

    /// Takes what the builders finished and lets in what there is room for. True when a table became ready or
    /// turned out impossible since the last call: stacks that waited may be completed.
    ///
    /// To be called when [`Self::ready_fd`] is readable, and at [`Self::next_poll`].
    pub(crate) fn poll(&mut self) -> bool {
        self.now = (self.clock)();
        self.memory.pool.settle(self.now);
        self.executables.clear_released(&mut self.memory, self.now);
        let mut changed = false;
        for built in self.builders.take() {
            changed |= self.take(built);
        }
        if let Err(error) = self.layouts.retry(&mut self.memory, self.now) {
            tracing::warn!("write the mappings of an image: {error}");
        }
        changed |= self.give_way();
        changed | self.place()
    }

    /// An eventfd, readable when [`Self::poll`] has something.
    pub(crate) fn ready_fd(&self) -> RawFd {
        self.builders.fd()
    }

    /// When [`Self::poll`] has something to do that no builder announces: freed pages may be used again.
    pub(crate) fn next_poll(&self) -> Option<Instant> {
        let wanted = !self.waiting.is_empty() || self.layouts.waiting() > 0;
        let settles = self.memory.pool.settles_at().filter(|_| wanted);
        settles.into_iter().chain(self.executables.next_cleared_at()).min()
    }

    /// One of `abi::EXECUTABLE_*`.
    pub(crate) fn state(&self, slot: u32) -> u32 {
        self.executables.state(slot)
    }

    /// An executable is in a stack that was drained; the time is that of the last poll.
    pub(crate) fn used(&mut self, slot: u32) {
        self.executables.used(slot, self.now);
    }

    /// The same for the image.
    pub(crate) fn used_image(&mut self, key: &ImageKey) {
        self.layouts.used(key, self.now);
    }

    /// Ends an interval: a table that is in no stack of the new one may be evicted for another.
    pub(crate) fn end_interval(&mut self) {
        self.executables.end_interval();
    }

    /// Makes an image's mappings known to the kernel, sorted by start. An image whose mappings find no room has
    /// none until there is; that is counted and no error.
    ///
    /// # Errors
    /// The kernel refuses the image; what it knew of it before stays.
    pub(crate) fn write_layout(&mut self, key: &ImageKey, layout: &Layout) -> Result<(), Error> {
        self.now = (self.clock)();
        let written = self.layouts.write(key, layout, &mut self.memory, self.now);
        self.give_way();
        written
    }

    /// The image ended, or its mappings are not known any more.
    pub(crate) fn drop_layout(&mut self, key: &ImageKey) {
        self.now = (self.clock)();
        self.layouts.drop_image(key, &mut self.memory, self.now);
    }

    /// What the image maps cannot be known: the kernel is not to send its samples whole.
    pub(crate) fn give_up(&mut self, key: &ImageKey) {
        self.now = (self.clock)();
        if let Err(error) = self.layouts.give_up(key, &mut self.memory, self.now) {
            tracing::warn!("image of process {}: {error}", key.tgid);
        }
    }

    /// The binary of a slot was let go, and no layout refers to it.
    pub(crate) fn release(&mut self, slot: u32) {
        self.now = (self.clock)();
        match self.executables.release(slot, &mut self.memory, self.now) {
            Ok(ticket) => self.cancel(ticket),
            Err(error) => report(slot, &error),
        }
    }

    /// The rule for a place in an executable, as the kernel programs find it.
    pub(crate) fn find_rule(&self, slot: u32, file_offset: u32) -> unwind::Found {
        unwind::find_rule(&self.memory.pool, &self.executables.shown(slot), file_offset)
    }

    fn build(&mut self, slot: u32, id: u64, executable: Option<Arc<Executable>>) {
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        let Some(executable) = executable else {
            self.executables.begun(slot, id, ticket, self.now);
            self.fail(slot, Failure::Closed);
            return;
        };
        if self.builders.push(Job { slot, ticket, executable }) {
            self.executables.begun(slot, id, ticket, self.now);
        } else {
            self.queue_full += 1;
        }
    }

    /// Takes a build back, begun or not.
    fn cancel(&mut self, ticket: Option<u64>) {
        let Some(ticket) = ticket else {
            return;
        };
        self.builders.cancel(ticket);
        let mut kept = VecDeque::with_capacity(self.waiting.len());
        for waiting in self.waiting.drain(..) {
            if waiting.ticket == ticket {
                self.builders.give_back(waiting.held);
            } else {
                kept.push_back(waiting);
            }
        }
        self.waiting = kept;
    }

    /// Takes one result; true when it says that there will be no table.
    fn take(&mut self, built: Built) -> bool {
        let Built { slot, ticket, outcome, held } = built;
        let wanted = self.executables.ticket(slot) == Some(ticket);
        match outcome {
            Outcome::Table(table) if wanted => {
                self.executables.builds += 1;
                self.executables.incomplete += u64::from(table.is_incomplete());
                self.waiting.push_back(Waiting { slot, ticket, table, held });
                return false;
            }
            Outcome::Failed(failure) if wanted => {
                self.executables.builds += 1;
                self.fail(slot, failure);
            }
            Outcome::Refused if wanted => {
                self.queue_full += 1;
                self.executables.refused(slot);
            }
            _ => {}
        }
        self.builders.give_back(held);
        wanted
    }

    /// Lets in the tables that wait, in their order; true when one of them was decided.
    fn place(&mut self) -> bool {
        let (mut claimed, mut decided, mut blocked) = (0, false, false);
        let mut left = VecDeque::with_capacity(self.waiting.len());
        for waiting in std::mem::take(&mut self.waiting) {
            if blocked {
                left.push_back(waiting);
                continue;
            }
            let (slot, table) = (waiting.slot, waiting.table.as_ref());
            let placed = self.executables.place(slot, table, claimed, &mut self.memory, self.now);
            let placed = placed.unwrap_or_else(|error| {
                report(slot, &error);
                Placed::Without
            });
            blocked = placed == Placed::Blocked;
            match placed {
                Placed::Waits | Placed::Blocked => {
                    claimed += waiting.table.pages();
                    left.push_back(waiting);
                }
                Placed::Ready | Placed::Without => {
                    decided = true;
                    self.builders.give_back(waiting.held);
                }
            }
        }
        self.waiting = left;
        decided
    }

    fn fail(&mut self, slot: u32, failure: Failure) {
        if let Err(error) = self.executables.failed(slot, failure, &mut self.memory) {
            report(slot, &error);
        }
    }

    /// Gives layouts their part of the pages back; true when a table had to go.
    fn give_way(&mut self) -> bool {
        self.executables.give_way(&mut self.memory, self.now).unwrap_or_else(|error| {
            tracing::warn!("evict an unwind table: {error}");
            false
        })
    }
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tables").field("executables", &self.executables).finish_non_exhaustive()
    }
}

fn report(slot: u32, error: &Error) {
    tracing::warn!("the unwind table of slot {slot}: {error}");
}

#[cfg(test)]
mod tests;
