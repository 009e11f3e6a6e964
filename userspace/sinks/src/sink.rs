//! A destination as the outlet sees it.

use std::time::Duration;

use queue::Record;

/// What became of one attempt to send a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The destination has it.
    Sent,
    /// The same bytes may succeed later, after the wait the destination asked for, if it did.
    Retry { after: Option<Duration>, error: String },
    /// The destination will never take it.
    Drop { reason: Reason, error: String },
    /// It is too large in one piece.
    Split { error: String },
}

/// Why a record was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The destination refused it.
    Rejected,
    /// The destination refused it as too large, and it cannot be split further.
    TooLarge,
}

impl Reason {
    /// All reasons, in the order in which they are reported.
    pub const ALL: [Reason; 2] = [Reason::Rejected, Reason::TooLarge];

    /// The value of the metrics' label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Rejected => "rejected",
            Reason::TooLarge => "too_large",
        }
    }
}

/// Sends records to one destination.
pub trait Sink: Send + Sync {
    /// The destination's name in the configuration; also its name in the queue.
    fn name(&self) -> &str;

    /// What it is, for example `pyroscope`.
    fn kind(&self) -> &'static str;

    /// Where it is, without credentials.
    fn url(&self) -> String;

    /// Sends one record once. May be cancelled at any await.
    fn send(&self, record: &Record) -> impl Future<Output = Verdict> + Send;

    /// Two records which together say what `record` says, each smaller than it, with its items
    /// shared out between them. `None` when it cannot be split.
    fn split(&self, record: &Record) -> Option<(Record, Record)>;
}
