//! The question put to the store and its answer.

use model::pprof;

use crate::merge::Frames;

/// What to read. A record belongs to the range when `from_unix_ms <= newest_unix_ms <= to_unix_ms`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    pub from_unix_ms: i64,
    /// Inclusive. A range that reaches the present includes the interval not yet finished.
    pub to_unix_ms: i64,
    /// Several values for one label: any of them. Different labels: all of them. Empty: every series.
    pub matchers: Vec<Matcher>,
    pub frames: Frames,
    /// Width of a timeline bucket; 0 for no timeline.
    pub step_ms: u64,
}

/// Selects series whose label has exactly this value; the value of an absent label is the empty string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matcher {
    pub label: String,
    pub value: String,
}

/// The answer to a [`Query`].
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Everything that matched, merged: one sample per distinct stack and label set, with the string labels
    /// `service_name`, `container_id`, `process_name` (where the series has them), and what the sample itself
    /// carried (`pid` as a number, `thread`).
    pub profile: pprof::Profile,
    /// All series in the range, whatever the matchers and frames; largest first.
    pub series: Vec<SeriesTotal>,
    /// Ascending and without gaps over the time that has data; sums to the total of `profile`. Begins before the
    /// range where the first profile does.
    pub timeline: Vec<Bucket>,
    /// Stacks over the limit were merged into one named `(truncated)`; totals are still right.
    pub truncated: bool,
    /// Records, and profiles within records, that could not be read.
    pub skipped_records: u64,
    /// Samples within readable profiles that made no sense: an index out of range, a negative value.
    pub skipped_samples: u64,
}

/// One series and its CPU time in the range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesTotal {
    /// As pushed, sorted by name.
    pub labels: Vec<(String, String)>,
    pub value_ns: i64,
}

/// CPU time in `[start_unix_ms, start_unix_ms + step)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    pub start_unix_ms: i64,
    pub value_ns: i64,
}
