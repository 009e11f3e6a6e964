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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;

    fn queue() -> Queue {
        Queue::new(Config { bytes_max: 1 << 20 })
    }

    fn record(number: u32) -> Record {
        Record { items: 1, newest_unix_ms: 0, payload: Bytes::copy_from_slice(&number.to_le_bytes()) }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_record_pushed_from_a_plain_thread_reaches_every_destination_in_order() {
        const RECORDS: u32 = 5000;
        let queue = queue();
        let readers: Vec<_> = ["one", "two", "three"]
            .map(|name| {
                let mut cursor = queue.cursor(name).unwrap();
                tokio::spawn(async move {
                    for number in 0..RECORDS {
                        let (seq, record) = cursor.next().await;
                        assert_eq!(record.payload.as_ref(), number.to_le_bytes());
                        assert!(cursor.ack(seq));
                    }
                })
            })
            .into_iter()
            .collect();
        let pushing = queue.clone();
        let thread = std::thread::spawn(move || {
            for number in 0..RECORDS {
                pushing.push(record(number)).unwrap();
            }
        });
        for reader in readers {
            tokio::time::timeout(Duration::from_secs(60), reader).await.unwrap().unwrap();
        }
        thread.join().unwrap();
        assert_eq!(queue.delivered().get(), u64::from(RECORDS));
        assert_eq!(queue.stats().held_bytes, 0);
    }

    #[tokio::test]
    async fn a_record_comes_again_until_it_is_acknowledged() {
        let queue = queue();
        let mut cursor = queue.cursor("a").unwrap();
        queue.push(record(1)).unwrap();
        queue.push(record(2)).unwrap();
        let first = cursor.next().await;
        assert_eq!(cursor.next().await, first);
        cursor.ack(first.0);
        assert_eq!(cursor.next().await.1, record(2));
        assert_eq!(cursor.pending().records, 1);
    }

    #[tokio::test]
    async fn a_cursor_keeps_its_position_when_it_is_made_anew() {
        let queue = queue();
        let mut cursor = queue.cursor("a").unwrap();
        assert_eq!(queue.cursor("a").unwrap_err(), Error::CursorInUse("a".to_owned()));
        for number in 1..=3 {
            queue.push(record(number)).unwrap();
        }
        let (seq, _) = cursor.next().await;
        cursor.ack(seq);
        let (in_flight, _) = cursor.next().await;
        drop(cursor);
        queue.push(record(4)).unwrap();
        let mut cursor = queue.cursor("a").unwrap();
        assert_eq!(cursor.next().await, (in_flight, record(2)));
        assert_eq!(cursor.pending().records, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn drained_waits_for_the_last_acknowledgement_and_not_beyond_the_deadline() {
        let queue = queue();
        let mut cursor = queue.cursor("a").unwrap();
        queue.push(record(1)).unwrap();
        let started = Instant::now();
        assert!(!queue.drained(started + Duration::from_secs(3)).await);
        assert_eq!(Instant::now() - started, Duration::from_secs(3));

        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.drained(Instant::now() + Duration::from_secs(3600)).await }
        });
        tokio::task::yield_now().await;
        let (seq, _) = cursor.next().await;
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        cursor.ack(seq);
        assert!(waiting.await.unwrap());
        assert_eq!(Instant::now() - started, Duration::from_secs(3), "no time had to pass");
    }

    #[tokio::test(start_paused = true)]
    async fn a_destination_without_a_cursor_does_not_hold_up_the_end() {
        let queue = queue();
        drop(queue.cursor("away").unwrap());
        queue.push(record(1)).unwrap();
        assert_eq!(queue.pending("away").unwrap().records, 1);
        assert!(queue.drained(Instant::now() + Duration::from_secs(1)).await);
    }
}
