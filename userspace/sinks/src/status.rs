//! What an outlet has done and how it is, readable while it works.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::{Metric, MetricKind};
use queue::{Count, Pending, Queue, Record};
use tokio::time::Instant;

use crate::Reason;

/// Refused records are logged at most this often; the log says how many were not.
const DROP_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What an outlet is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutletState {
    /// Sending, or waiting for something to send.
    Working,
    /// The destination does not take the oldest record.
    Retrying {
        /// Since the first of the failed attempts, milliseconds since the epoch.
        since_unix_ms: i64,
        last_error: String,
    },
    /// The task has ended.
    Stopped,
}

/// An outlet at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutletStatus {
    /// The destination's name in the configuration.
    pub name: String,
    /// For example `pyroscope`.
    pub kind: &'static str,
    /// Without credentials.
    pub url: String,
    pub state: OutletState,
    /// The newest failure of any kind, also after it has passed.
    pub last_error: Option<String>,
    /// The first and the newest drop since a record was last taken, milliseconds since the epoch.
    pub drops_unix_ms: Option<(i64, i64)>,
    pub sent: Count,
    /// By reason, all reasons; the last is `lag`: what the queue could not hold any longer.
    pub dropped: Vec<(&'static str, Count)>,
    pub pending: Pending,
}

/// Reads the status of an outlet, from anywhere, also after the outlet has ended.
#[derive(Debug, Clone)]
pub struct OutletHandle {
    queue: Queue,
    name: String,
    kind: &'static str,
    url: String,
    progress: Arc<Mutex<Progress>>,
}

#[derive(Debug)]
struct Progress {
    state: OutletState,
    last_error: Option<String>,
    drops_unix_ms: Option<(i64, i64)>,
    sent: Count,
    sent_bytes: u64,
    /// In the order of `Reason::ALL`.
    dropped: [Count; Reason::ALL.len()],
    retries: u64,
    splits: u64,
    drop_logged: Option<Instant>,
    drops_not_logged: u64,
}

impl OutletHandle {
    pub(crate) fn new(queue: Queue, name: String, kind: &'static str, url: String) -> Self {
        let progress = Progress {
            state: OutletState::Working,
            last_error: None,
            drops_unix_ms: None,
            sent: Count::default(),
            sent_bytes: 0,
            dropped: Default::default(),
            retries: 0,
            splits: 0,
            drop_logged: None,
            drops_not_logged: 0,
        };
        Self { queue, name, kind, url, progress: Arc::new(Mutex::new(progress)) }
    }

    /// How the outlet is now.
    pub fn status(&self) -> OutletStatus {
        let stats = self.queue.stats();
        let in_queue = stats.destinations.into_iter().find(|destination| destination.name == self.name);
        let in_queue = in_queue.unwrap_or_default();
        let progress = self.progress();
        let mut dropped: Vec<_> =
            Reason::ALL.iter().map(|reason| reason.as_str()).zip(progress.dropped).collect();
        dropped.push((crate::queue_metrics::REASON_LAG, in_queue.lost_to_lag));
        OutletStatus {
            name: self.name.clone(),
            kind: self.kind,
            url: self.url.clone(),
            state: progress.state.clone(),
            last_error: progress.last_error.clone(),
            drops_unix_ms: progress.drops_unix_ms,
            sent: progress.sent,
            dropped,
            pending: in_queue.pending,
        }
    }

    /// The outlet's own metrics, labelled `destination` and `reason`. What the queue lost is in
    /// [`crate::queue_metrics`].
    pub fn metrics(&self) -> Vec<Metric> {
        let progress = self.progress();
        let counter =
            |name, help, value| Metric::counter(name, help, value).with("destination", self.name.as_str());
        let retrying = matches!(progress.state, OutletState::Retrying { .. });
        let mut all = vec![
            counter(
                "kovar_outlet_sent_records_total",
                "Records that the destination took; the halves of a split record count each.",
                progress.sent.records,
            ),
            counter("kovar_outlet_sent_items_total", "Items that the destination took.", progress.sent.items),
            counter(
                "kovar_outlet_sent_bytes_total",
                "Payload bytes that the destination took.",
                progress.sent_bytes,
            ),
            counter("kovar_outlet_retries_total", "Attempts that failed for now.", progress.retries),
            counter("kovar_outlet_splits_total", "Records split in two as too large.", progress.splits),
            Metric {
                name: "kovar_outlet_retrying",
                help: "1 while the destination does not take what it is sent.",
                kind: MetricKind::Gauge,
                labels: vec![("destination", self.name.clone())],
                value: f64::from(u8::from(retrying)),
            },
        ];
        for (reason, dropped) in Reason::ALL.iter().zip(progress.dropped) {
            let by_reason = |name, help, value| counter(name, help, value).with("reason", reason.as_str());
            all.push(by_reason(
                "kovar_outlet_dropped_records_total",
                "Records that the destination will never take, by reason.",
                dropped.records,
            ));
            all.push(by_reason(
                "kovar_outlet_dropped_items_total",
                "Items in records that the destination will never take, by reason.",
                dropped.items,
            ));
        }
        all
    }

    pub(crate) fn sent(&self, record: &Record) {
        let mut progress = self.progress();
        progress.sent.add(record.items);
        progress.sent_bytes += record.payload_bytes();
        progress.drops_unix_ms = None;
        self.answered(&mut progress);
    }

    pub(crate) fn dropped(&self, record: &Record, reason: Reason, error: String) {
        let mut progress = self.progress();
        let index = Reason::ALL.iter().position(|known| *known == reason).unwrap_or_default();
        progress.dropped[index].add(record.items);
        let now_unix_ms = unix_ms_now();
        let first_unix_ms = progress.drops_unix_ms.map_or(now_unix_ms, |(first, _)| first);
        progress.drops_unix_ms = Some((first_unix_ms, now_unix_ms));
        self.answered(&mut progress);
        let now = Instant::now();
        if progress.drop_logged.is_some_and(|logged| now - logged < DROP_LOG_INTERVAL) {
            progress.drops_not_logged += 1;
        } else {
            let not_logged = std::mem::take(&mut progress.drops_not_logged);
            progress.drop_logged = Some(now);
            tracing::warn!(
                destination = self.name,
                url = self.url,
                reason = reason.as_str(),
                items = record.items,
                not_logged,
                "record refused for good: {error}"
            );
        }
        progress.last_error = Some(error);
    }

    pub(crate) fn split(&self, error: &str) {
        tracing::debug!(destination = self.name, "record split in two: {error}");
        let mut progress = self.progress();
        progress.splits += 1;
        self.answered(&mut progress);
    }

    pub(crate) fn retrying(&self, error: String, wait: Duration) {
        let mut progress = self.progress();
        progress.retries += 1;
        progress.last_error = Some(error.clone());
        match &mut progress.state {
            OutletState::Retrying { last_error, .. } => {
                tracing::debug!(destination = self.name, ?wait, "still failing: {error}");
                *last_error = error;
            }
            state => {
                tracing::warn!(destination = self.name, url = self.url, "cannot send, trying again: {error}");
                *state = OutletState::Retrying { since_unix_ms: unix_ms_now(), last_error: error };
            }
        }
    }

    pub(crate) fn stopped(&self, pending: Pending) {
        self.progress().state = OutletState::Stopped;
        if pending.records > 0 {
            tracing::warn!(
                destination = self.name,
                url = self.url,
                records = pending.records,
                items = pending.items,
                "stopped before everything was sent"
            );
        }
    }

    /// The destination is there and gives answers.
    fn answered(&self, progress: &mut Progress) {
        if let OutletState::Retrying { .. } = progress.state {
            tracing::info!(destination = self.name, url = self.url, "sending again");
        }
        progress.state = OutletState::Working;
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unix_ms_now() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}
