//! Two threads that read executables: one for ordinary files, one for large ones, so that nobody waits for those.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use abi::PAGE_BYTES;
use symbolizer::Executable;

use super::table::{Failure, Read, Size, Table};
use crate::Error;

/// Unwind sections above this size are read by the thread for large files.
const LARGE_BYTES: u64 = 8 << 20;
/// Tables of ordinary and of large files that are built and not written to pages yet.
const BUILT_MAX: [usize; 2] = [16, 1];
/// The same in bytes of pages; a thread goes on below it, so that one table more is what there may be.
const BUILT_BYTES_MAX: usize = 8 << 20;

/// Files that wait for each of the two threads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) ordinary: usize,
    pub(super) large: usize,
}

/// One file to be read.
pub(super) struct Job {
    pub(super) slot: u32,
    /// Unique; a result whose job is not wanted any more is told by it.
    pub(super) ticket: u64,
    pub(super) executable: Arc<Executable>,
}

/// A job's result.
pub(super) struct Built {
    pub(super) slot: u32,
    pub(super) ticket: u64,
    pub(super) outcome: Outcome,
    pub(super) held: Held,
}

/// What became of a job.
pub(super) enum Outcome {
    Table(Box<dyn Table>),
    Failed(Failure),
    /// The queue of large files was full.
    Refused,
}

/// A result's share of its thread's limit, until it is given back.
#[derive(Debug)]
#[must_use]
pub(super) struct Held {
    lane: usize,
    bytes: usize,
}

/// The two threads. Dropping it stops them; a file that is being read is read to its end, nobody waits for it.
pub(super) struct Builders {
    shared: Arc<Shared>,
}

struct Shared {
    lanes: [Lane; 2],
    limits: [usize; 2],
    read: Box<Read>,
    size: Box<Size>,
    /// An eventfd, readable when there is a result.
    event: File,
}

const ORDINARY: usize = 0;
const LARGE: usize = 1;

#[derive(Default)]
struct Lane {
    state: Mutex<LaneState>,
    wake: Condvar,
}

#[derive(Default)]
struct LaneState {
    jobs: VecDeque<Job>,
    built: Vec<Built>,
    held: usize,
    held_bytes: usize,
    stop: bool,
}

impl Builders {
    pub(super) fn start(read: Box<Read>, size: Box<Size>, limits: Limits) -> Result<Self, Error> {
        let system = |what: &str| {
            let what = what.to_owned();
            move |source| Error::System { what, source }
        };
        let event = crate::profiler::event_fd().map_err(system("create an eventfd"))?;
        let lanes = Default::default();
        let shared = Arc::new(Shared { lanes, limits: [limits.ordinary, limits.large], read, size, event });
        let builders = Self { shared: Arc::clone(&shared) };
        for (lane, name) in [(ORDINARY, "unwind-tables"), (LARGE, "unwind-large")] {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name(name.into())
                .spawn(move || shared.run(lane))
                .map_err(system("start a thread that builds unwind tables"))?;
        }
        Ok(builders)
    }

    /// Readable when [`Self::take`] has something.
    pub(super) fn fd(&self) -> RawFd {
        self.shared.event.as_raw_fd()
    }

    /// Queues a file; false when the queue is full.
    pub(super) fn push(&self, job: Job) -> bool {
        self.shared.push(ORDINARY, job).is_ok()
    }

    /// Takes a job back that was not begun, and with it its hold on the file.
    pub(super) fn cancel(&self, ticket: u64) {
        for lane in &self.shared.lanes {
            lane.locked().jobs.retain(|job| job.ticket != ticket);
        }
    }

    /// Results since the last call.
    pub(super) fn take(&self) -> Vec<Built> {
        let mut count = [0; 8];
        // Empty when there is nothing new.
        let _count = (&self.shared.event).read(&mut count);
        self.shared.lanes.iter().flat_map(|lane| std::mem::take(&mut lane.locked().built)).collect()
    }

    /// A result is written, or thrown away: its thread may go on.
    pub(super) fn give_back(&self, held: Held) {
        let lane = &self.shared.lanes[held.lane];
        let mut state = lane.locked();
        state.held -= 1;
        state.held_bytes -= held.bytes;
        lane.wake.notify_all();
    }

    /// Files that wait to be read.
    pub(super) fn queued(&self) -> usize {
        self.shared.lanes.iter().map(|lane| lane.locked().jobs.len()).sum()
    }
}

impl Drop for Builders {
    fn drop(&mut self) {
        for lane in &self.shared.lanes {
            let mut state = lane.locked();
            state.stop = true;
            state.jobs.clear();
            lane.wake.notify_all();
        }
    }
}

impl Shared {
    fn run(&self, number: usize) {
        let lane = &self.lanes[number];
        while let Some(job) = lane.next(BUILT_MAX[number]) {
            let (slot, ticket) = (job.slot, job.ticket);
            let guarded = catch_unwind(AssertUnwindSafe(|| self.build(number, job)));
            let outcome = match guarded {
                Ok(Some(outcome)) => outcome,
                Ok(None) => continue,
                Err(_) => Outcome::Failed(Failure::Panicked),
            };
            let bytes = match &outcome {
                Outcome::Table(table) => table.pages() * PAGE_BYTES,
                _ => 0,
            };
            let mut state = lane.locked();
            state.held += 1;
            state.held_bytes += bytes;
            state.built.push(Built { slot, ticket, outcome, held: Held { lane: number, bytes } });
            drop(state);
            // An eventfd takes a write unless its counter is at its limit, and then it is readable.
            let _readable_already = (&self.event).write(&1u64.to_ne_bytes());
        }
    }

    /// What a file gives; `None` when the other thread has it now.
    fn build(&self, lane: usize, job: Job) -> Option<Outcome> {
        if lane == ORDINARY && (self.size)(&job.executable.file) > LARGE_BYTES {
            return self.push(LARGE, job).err().map(|_| Outcome::Refused);
        }
        Some(match (self.read)(&job.executable.file) {
            Ok(table) => Outcome::Table(table),
            Err(failure) => Outcome::Failed(failure),
        })
    }

    fn push(&self, number: usize, job: Job) -> Result<(), Job> {
        let lane = &self.lanes[number];
        let mut state = lane.locked();
        if state.stop || state.jobs.len() >= self.limits[number] {
            return Err(job);
        }
        state.jobs.push_back(job);
        lane.wake.notify_all();
        Ok(())
    }
}

impl Lane {
    /// The next job, once the results taken so far leave room for its own; `None` at the end.
    fn next(&self, built_max: usize) -> Option<Job> {
        let mut state = self.locked();
        loop {
            if state.stop {
                return None;
            }
            if state.held < built_max
                && state.held_bytes < BUILT_BYTES_MAX
                && let Some(job) = state.jobs.pop_front()
            {
                return Some(job);
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn locked(&self) -> MutexGuard<'_, LaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
