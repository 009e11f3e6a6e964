//! Everything around a sink that is the same for every destination.

use std::time::Duration;

use queue::{Cursor, Queue, Record, Seq};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use transport::{Shutdown, stop_asked};

use crate::backoff::Backoff;
use crate::{BackoffConfig, OutletHandle, Reason, Sink, Verdict};

/// Sends a queue's records to one destination, oldest first, one request at a time.
#[derive(Debug)]
pub struct Outlet<S> {
    sink: S,
    cursor: Cursor,
    backoff: Backoff,
    handle: OutletHandle,
    job: Option<Job>,
}

/// The record in flight, in as many pieces as the destination wanted. What was sent once is kept and
/// resent byte for byte.
#[derive(Debug)]
struct Job {
    seq: Seq,
    /// What is left to send, the next one last. At most one more than the halvings of a record.
    pieces: Vec<Record>,
}

impl<S: Sink> Outlet<S> {
    /// An outlet that reads `queue` under the sink's name; a name that is new there starts with
    /// what is pushed from now on.
    ///
    /// # Errors
    /// [`queue::Error::CursorInUse`] while another outlet of this name exists.
    pub fn new(sink: S, queue: &Queue, backoff: BackoffConfig) -> Result<Self, queue::Error> {
        let cursor = queue.cursor(sink.name())?;
        let handle = OutletHandle::new(queue.clone(), sink.name().to_owned(), sink.kind(), sink.url());
        Ok(Self { sink, cursor, backoff: Backoff::new(backoff), handle, job: None })
    }

    /// Reads the status while the outlet runs and afterwards.
    pub fn handle(&self) -> OutletHandle {
        self.handle.clone()
    }

    /// Sends until `shutdown` says stop, then what fits before its deadline. A request under way is
    /// not given up before the deadline; a wait between two attempts is cut short.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        loop {
            let (seq, record) = tokio::select! {
                biased;
                _ = stop_asked(&mut shutdown) => break,
                next = self.cursor.next() => next,
            };
            let wait = tokio::select! {
                biased;
                wait = self.attempt(seq, record) => wait,
                () = deadline_passed(shutdown.clone()) => break,
            };
            if let Some(wait) = wait {
                tokio::select! {
                    biased;
                    _ = stop_asked(&mut shutdown) => break,
                    () = sleep(wait) => {}
                }
            }
        }
        let deadline = stop_asked(&mut shutdown).await;
        self.flush(deadline).await;
        self.handle.stopped(self.cursor.pending());
    }

    /// Sends what is pending. A destination that worked until now is tried again until the
    /// deadline; one that was failing gets one attempt, so that it does not hold up every stop.
    async fn flush(&mut self, deadline: Instant) {
        let mut was_failing = self.backoff.is_failing();
        self.backoff.reset();
        while Instant::now() < deadline
            && let Some((seq, record)) = self.cursor.try_next()
        {
            let Ok(wait) = timeout_at(deadline, self.attempt(seq, record)).await else { return };
            match wait {
                None => was_failing = false,
                Some(wait) if was_failing || Instant::now() + wait >= deadline => return,
                Some(wait) => sleep(wait).await,
            }
        }
    }

    /// Sends the next piece of a record once; the wait before the next attempt if it failed.
    async fn attempt(&mut self, seq: Seq, record: Record) -> Option<Duration> {
        if self.job.as_ref().is_none_or(|job| job.seq != seq) {
            self.job = Some(Job { seq, pieces: vec![record] });
        }
        let job = self.job.as_mut()?;
        let piece = job.pieces.last()?;
        match self.sink.send(piece).await {
            Verdict::Sent => {
                self.handle.sent(piece);
                self.cursor.settle(seq, piece.items);
                job.pieces.pop();
            }
            Verdict::Drop { reason, error } => {
                self.handle.dropped(piece, reason, error);
                self.cursor.settle(seq, piece.items);
                job.pieces.pop();
            }
            Verdict::Split { error } => match self.sink.split(piece) {
                Some((first, second)) => {
                    self.handle.split(&error);
                    job.pieces.pop();
                    job.pieces.extend([second, first]);
                }
                None => {
                    self.handle.dropped(piece, Reason::TooLarge, error);
                    self.cursor.settle(seq, piece.items);
                    job.pieces.pop();
                }
            },
            Verdict::Retry { after, error } => {
                let wait = self.backoff.after_failure(after);
                self.handle.retrying(error, wait);
                return Some(wait);
            }
        }
        self.backoff.reset();
        if job.pieces.is_empty() {
            self.cursor.ack(seq);
            self.job = None;
        }
        None
    }
}

async fn deadline_passed(mut shutdown: Shutdown) {
    let deadline = stop_asked(&mut shutdown).await;
    sleep_until(deadline).await;
}

#[cfg(test)]
mod tests;
