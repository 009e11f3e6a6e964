//! A handle on one directory of recent profiles.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use model::Metric;

use crate::counters;
use crate::live::Live;
use crate::lock::DirectoryLock;
use crate::log::Log;
use crate::select;
use crate::{Error, Query, Selection};

/// Where profiles are kept and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Directory of the store's own; made when missing.
    pub path: PathBuf,
    /// Upper limit of all segment files together; the oldest go first. At least [`Config::BYTES_MIN`].
    pub bytes_max: u64,
    /// Profiles older than this go, give or take the time span of one segment (an eighth of this, at most 10
    /// minutes or a thousandth of this). At least 1.
    pub age_max_s: u64,
}

impl Config {
    /// The least that `bytes_max` may be.
    pub const BYTES_MIN: u64 = 4096;
}

/// Recent profiles on disk. Clones share one directory; the lock is let go of with the last of them.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    log: Mutex<Log>,
    live: Live,
    _lock: DirectoryLock,
}

impl Store {
    /// Opens the directory, cuts off what a crash left unfinished and applies the limits. Blocking.
    ///
    /// # Errors
    /// [`Error::Config`] for limits that cannot work, [`Error::Locked`] when the directory is in use,
    /// [`Error::Full`] and [`Error::Io`] with the path in question.
    pub fn open(config: Config) -> Result<Store, Error> {
        if config.bytes_max < Config::BYTES_MIN {
            let what = "the size limit is below 4096 bytes: raise it";
            return Err(Error::Config { path: config.path, what });
        }
        if config.age_max_s == 0 {
            let what = "the age limit is 0 seconds, so that nothing could be kept: raise it";
            return Err(Error::Config { path: config.path, what });
        }
        let lock = DirectoryLock::acquire(&config.path)?;
        let log = Log::open(&config, now_unix_ms())?;
        Ok(Self { inner: Arc::new(Inner { log: Mutex::new(log), live: Live::new(), _lock: lock }) })
    }

    /// Appends one encoded `model::push::PushRequest` and forgets the live record. Blocking.
    ///
    /// `newest_unix_ms` is the end of the interval. An empty request is not stored.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Full`], [`Error::Io`]; whatever it is, what is stored stays, nothing of
    /// this record does, and the next append starts anew.
    pub fn append(&self, newest_unix_ms: i64, push_request: &[u8]) -> Result<(), Error> {
        let mut log = self.log();
        let result = match push_request {
            [] => Ok(()),
            _ => log.append(now_unix_ms(), newest_unix_ms, push_request),
        };
        // Under the log's lock, so that no query sees the interval twice.
        self.inner.live.clear();
        result
    }

    /// Reads, filters and merges everything in a range. Blocking, and takes tens of milliseconds and more; holds
    /// one record and the merged profile in memory.
    ///
    /// # Errors
    /// [`Error::Range`] for a range that ends before it begins, [`Error::Io`] for a segment that cannot be read.
    /// Bytes that make no sense are no error: they are skipped and counted.
    pub fn select(&self, query: &Query) -> Result<Selection, Error> {
        let (from_unix_ms, to_unix_ms) = (query.from_unix_ms, query.to_unix_ms);
        if from_unix_ms > to_unix_ms {
            return Err(Error::Range { from_unix_ms, to_unix_ms });
        }
        let now_unix_ms = now_unix_ms();
        self.inner.live.note_query(to_unix_ms, now_unix_ms);
        let (segments, live) = {
            let mut log = self.log();
            log.expire(now_unix_ms)?;
            (log.overlapping(from_unix_ms, to_unix_ms), self.inner.live.get(from_unix_ms, to_unix_ms))
        };
        let (selection, corrupt) = select::select(query, &segments, live)?;
        let mut log = self.log();
        for (sequence, records) in corrupt {
            log.note_corrupt(sequence, records);
        }
        Ok(selection)
    }

    /// Puts the interval that is not finished yet in place of the one put here before; kept in memory only.
    pub fn set_live(&self, newest_unix_ms: i64, push_request: Bytes) {
        self.inner.live.set(newest_unix_ms, push_request);
    }

    /// Whether a query asked for the present within the last 10 seconds. Never blocks.
    pub fn live_wanted(&self) -> bool {
        self.inner.live.wanted()
    }

    /// The store's own metrics.
    pub fn metrics(&self) -> Vec<Metric> {
        counters::metrics(&self.log())
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.inner.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now_unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
