//! What the store counts, and its metrics.

use model::Metric;

use crate::log::Log;

/// Counted since the process started.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) dropped_age_records: u64,
    pub(crate) dropped_bytes_records: u64,
    pub(crate) corrupt_records: u64,
    pub(crate) torn_tails: u64,
    pub(crate) set_aside_segments: u64,
    pub(crate) append_errors: u64,
}

pub(crate) fn metrics(log: &Log) -> Vec<Metric> {
    let counters = &log.counters;
    let dropped = |reason: &str, value| {
        let help = "Records dropped with their segments because of a limit of the store.";
        Metric::counter("kovar_store_dropped_records_total", help, value).with("reason", reason)
    };
    vec![
        Metric::gauge("kovar_store_size_bytes", "Bytes of all segments.", log.bytes() as f64),
        Metric::gauge("kovar_store_records", "Records in all segments.", log.records() as f64),
        Metric::gauge("kovar_store_segments", "Segment files.", log.segments() as f64),
        dropped("age", counters.dropped_age_records),
        dropped("bytes", counters.dropped_bytes_records),
        Metric::counter(
            "kovar_store_corrupt_records_total",
            "Records that could not be read; one for the unreadable rest of a segment.",
            counters.corrupt_records,
        ),
        Metric::counter(
            "kovar_store_torn_tails_total",
            "Unfinished records cut off when the store was opened.",
            counters.torn_tails,
        ),
        Metric::counter(
            "kovar_store_set_aside_segments_total",
            "Files of an unknown version or content that were renamed and kept.",
            counters.set_aside_segments,
        ),
        Metric::counter(
            "kovar_store_append_errors_total",
            "Records that could not be appended.",
            counters.append_errors,
        ),
    ]
}
