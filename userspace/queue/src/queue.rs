//! The shared handle: locking and waking around the log.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::log::Log;
use crate::{Cursor, Error, Pending, Record, Seq, Stats};

/// Limits of one queue.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Most payload bytes one destination may lag behind, and therefore most that are held.
    pub bytes_max: u64,
}

/// A bounded log of records. Clones are handles to the same log.
#[derive(Debug, Clone)]
pub struct Queue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    log: Mutex<Log>,
    pushed: Notify,
    /// A destination came further, or is gone.
    advanced: Notify,
}

impl Queue {
    /// An empty queue.
    pub fn new(config: Config) -> Self {
        Self {
            shared: Arc::new(Shared {
                log: Mutex::new(Log::new(config.bytes_max)),
                pushed: Notify::new(),
                advanced: Notify::new(),
            }),
        }
    }

    /// Appends a record for every destination known now. Never waits and needs no runtime; a
    /// destination that would lag too far loses its oldest records instead.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when the record alone exceeds the limit: it is counted, and pushing it
    /// again cannot succeed.
    pub fn push(&self, record: Record) -> Result<Seq, Error> {
        let seq = self.log().push(record)?;
        self.shared.pushed.notify_waiters();
        Ok(seq)
    }

    /// The cursor of a destination; one that is new starts at the head.
    ///
    /// # Errors
    /// [`Error::CursorInUse`] while another cursor of this name is alive.
    pub fn cursor(&self, name: &str) -> Result<Cursor, Error> {
        self.log().attach(name)?;
        Ok(Cursor::new(self.clone(), name.to_owned()))
    }

    /// Forgets a destination that is no longer wanted; what it had pending is counted as
    /// [`Stats::removed`]. Without effect when there is none of this name.
    ///
    /// # Errors
    /// [`Error::CursorInUse`] while its cursor is alive.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        self.log().remove(name)?;
        self.shared.advanced.notify_waiters();
        Ok(())
    }

    /// Everything up to here has been acknowledged or lost by every destination.
    pub fn delivered(&self) -> Seq {
        self.log().delivered()
    }

    /// What the destination has not acknowledged; `None` when there is none of this name.
    pub fn pending(&self, name: &str) -> Option<Pending> {
        self.log().destinations.get(name).map(|destination| destination.pending())
    }

    /// Waits until no destination with a live cursor has anything pending, at most until
    /// `deadline`; true when that was reached.
    pub async fn drained(&self, deadline: Instant) -> bool {
        let wait = async {
            loop {
                let advanced = self.shared.advanced.notified();
                if self.log().is_drained() {
                    return;
                }
                advanced.await;
            }
        };
        tokio::time::timeout_at(deadline, wait).await.is_ok()
    }

    /// All its counters at one moment.
    pub fn stats(&self) -> Stats {
        Stats::of(&self.log())
    }

    pub(crate) async fn next(&self, name: &str) -> (Seq, Record) {
        loop {
            // Created before the look, so that a push between look and wait is not missed.
            let pushed = self.shared.pushed.notified();
            if let Some(found) = self.try_next(name) {
                return found;
            }
            pushed.await;
        }
    }

    pub(crate) fn try_next(&self, name: &str) -> Option<(Seq, Record)> {
        let found = self.log().next(name);
        // Handing out a record gives up an overrun one before it.
        self.shared.advanced.notify_waiters();
        found
    }

    pub(crate) fn ack(&self, name: &str, seq: Seq) -> bool {
        let known = self.log().ack(name, seq);
        self.shared.advanced.notify_waiters();
        known
    }

    pub(crate) fn settle(&self, name: &str, seq: Seq, items: u32) {
        self.log().settle(name, seq, items);
    }

    pub(crate) fn detach(&self, name: &str) {
        self.log().detach(name);
        self.shared.advanced.notify_waiters();
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        // No code under this lock panics half way through an update.
        self.shared.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
