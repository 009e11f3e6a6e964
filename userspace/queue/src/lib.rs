//! A bounded log of opaque records with one cursor per destination, held in memory.
//!
//! A source calls [`Queue::push`] from any thread and never waits. Each destination reads through
//! its own [`Cursor`], so one that is slow or away costs the others nothing: when its own lag
//! exceeds the limit it loses its oldest records, and the loss is counted.
//!
//! What holds at every moment, for each destination, in records and in items:
//! `pushed since it was added = acknowledged + lost + pending`.
//!
//! Records leave memory when every cursor has passed them, so the payload bytes held never exceed
//! [`Config::bytes_max`] (a destination may hold one more record, the one it is sending).

mod cursor;
mod destination;
mod log;
mod queue;
mod record;
mod stats;

pub use cursor::Cursor;
pub use destination::{Count, Pending};
pub use log::RECORDS_MAX;
pub use queue::{Config, Queue};
pub use record::{Record, Seq};
pub use stats::{DestinationStats, Stats};

/// What the caller of a queue did that cannot succeed by trying again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The record alone is larger than the queue; it was counted and not stored. Push smaller records.
    #[error("a record of {payload_bytes} bytes does not fit a queue of {bytes_max} bytes")]
    TooLarge {
        /// Size of the record's payload.
        payload_bytes: u64,
        /// The queue's limit.
        bytes_max: u64,
    },
    /// Another cursor of this name is alive; two would share one position. Drop it first.
    #[error("the destination {0} already reads this queue")]
    CursorInUse(String),
}
