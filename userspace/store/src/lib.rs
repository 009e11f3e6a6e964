//! The embedded default destination: recent profiles on disk, read by the UI.
//!
//! [`Store::append`] takes encoded push requests, [`Store::select`] merges those of a time range into one
//! profile. FORMAT.md describes the files.

mod counters;
mod decode;
mod error;
mod live;
mod lock;
mod log;
pub mod merge;
mod query;
mod recover;
mod segment;
mod select;
mod store;
#[cfg(test)]
mod tests;
mod timeline;

pub use error::Error;
pub use merge::Frames;
pub use query::{Bucket, Matcher, Query, Selection, SeriesTotal};
pub use store::{Config, Store};

/// Labels of a series that the samples of a merged profile carry.
pub const SERVICE_LABELS: [&str; 3] = ["service_name", "container_id", "process_name"];
