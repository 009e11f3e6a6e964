//! The interval that is not finished yet, kept in memory while someone looks at the present.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tracing::warn;

use crate::segment::RECORD_BYTES_MAX;

/// For how long after a query of the present the live record is wanted.
const WANTED_FOR: Duration = Duration::from_secs(10);
/// A range that ends this shortly before now still asks for the present: time passes until the query arrives.
const PRESENT_SLACK_MS: i64 = 5_000;
const NEVER: u64 = u64::MAX;

/// One live record and when it was last asked for.
#[derive(Debug)]
pub(crate) struct Live {
    record: Mutex<Option<(i64, Bytes)>>,
    started: Instant,
    /// Milliseconds after `started`, or [`NEVER`].
    asked_ms: AtomicU64,
}

impl Live {
    pub(crate) fn new() -> Self {
        Self { record: Mutex::new(None), started: Instant::now(), asked_ms: AtomicU64::new(NEVER) }
    }

    pub(crate) fn set(&self, newest_unix_ms: i64, push_request: Bytes) {
        let fits = push_request.len() as u64 <= RECORD_BYTES_MAX;
        if !fits {
            warn!(
                bytes = push_request.len(),
                bytes_max = RECORD_BYTES_MAX,
                "the live profile is too large to show"
            );
        }
        *self.lock() = fits.then_some((newest_unix_ms, push_request));
    }

    pub(crate) fn clear(&self) {
        *self.lock() = None;
    }

    pub(crate) fn get(&self, from_unix_ms: i64, to_unix_ms: i64) -> Option<(i64, Bytes)> {
        let record = self.lock();
        record.as_ref().filter(|(newest, _)| (from_unix_ms..=to_unix_ms).contains(newest)).cloned()
    }

    /// Notes a query up to `to_unix_ms`.
    pub(crate) fn note_query(&self, to_unix_ms: i64, now_unix_ms: i64) {
        if to_unix_ms >= now_unix_ms.saturating_sub(PRESENT_SLACK_MS) {
            self.asked_ms.store(self.elapsed_ms(), Ordering::Relaxed);
        }
    }

    pub(crate) fn wanted(&self) -> bool {
        let asked_ms = self.asked_ms.load(Ordering::Relaxed);
        asked_ms != NEVER && u128::from(self.elapsed_ms().saturating_sub(asked_ms)) < WANTED_FOR.as_millis()
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(NEVER - 1)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(i64, Bytes)>> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
