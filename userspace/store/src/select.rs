//! Answers a query: reads the records of a range, filters their series and merges their profiles.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;

use bytes::Bytes;
use model::push::{PushRequest, RawProfileSeries};
use prost::Message;

use crate::decode;
use crate::merge::{self, Limits, Merger, TRUNCATED};
use crate::query::{Matcher, Query, Selection, SeriesTotal};
use crate::segment::{Reader, Segment, Step};
use crate::timeline::Timeline;
use crate::{Error, SERVICE_LABELS};

/// Distinct series of one answer, and the bytes of their labels; the rest is one series named `(truncated)`.
const SERIES_MAX: usize = 20_000;
const SERIES_LABEL_BYTES_MAX: usize = 16 << 20;

/// Unreadable records by the sequence of their segment.
pub(crate) type Corrupt = Vec<(u64, u64)>;

/// Reads `segments` one record at a time, then the live record.
pub(crate) fn select(
    query: &Query,
    segments: &[Segment],
    live: Option<(i64, Bytes)>,
) -> Result<(Selection, Corrupt), Error> {
    let live_unix_ms = live.as_ref().map(|(newest, _)| *newest);
    let first = segments.iter().map(|segment| segment.oldest_unix_ms).chain(live_unix_ms).min();
    let last = segments.iter().map(|segment| segment.newest_unix_ms).chain(live_unix_ms).max();
    let data_unix_ms = (first.unwrap_or(query.from_unix_ms), last.unwrap_or(query.to_unix_ms));
    let mut selecting = Selecting::new(query, data_unix_ms);
    let mut corrupt = Vec::new();
    for segment in segments {
        let records =
            selecting.segment(segment).map_err(|source| Error::io("read", &segment.path, source))?;
        if records > 0 {
            corrupt.push((segment.sequence, records));
        }
    }
    if let Some((newest_unix_ms, payload)) = live {
        selecting.record(newest_unix_ms, payload);
    }
    Ok((selecting.finish(), corrupt))
}

struct Selecting<'a> {
    query: &'a Query,
    /// Allowed values by label.
    matchers: BTreeMap<&'a str, Vec<&'a str>>,
    merger: Merger,
    timeline: Timeline,
    series: SeriesTotals,
    skipped_records: u64,
    buffer: Vec<u8>,
}

impl<'a> Selecting<'a> {
    fn new(query: &'a Query, data_unix_ms: (i64, i64)) -> Self {
        let mut matchers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for Matcher { label, value } in &query.matchers {
            matchers.entry(label).or_default().push(value);
        }
        Self {
            query,
            matchers,
            merger: Merger::new(Limits::default()),
            timeline: Timeline::new(query.step_ms, query.from_unix_ms, query.to_unix_ms, data_unix_ms),
            series: SeriesTotals::default(),
            skipped_records: 0,
            buffer: Vec::new(),
        }
    }

    /// The number of unreadable records in the segment.
    fn segment(&mut self, segment: &Segment) -> io::Result<u64> {
        let file = match File::open(&segment.path) {
            Ok(file) => file,
            // Dropped by a limit since the query began.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        let range = self.query.from_unix_ms..=self.query.to_unix_ms;
        let mut reader = Reader::new(file, segment.bytes, range)?;
        let mut corrupt = 0;
        loop {
            match reader.next()? {
                Step::Record { newest_unix_ms, payload: Some(payload) } => {
                    self.record(newest_unix_ms, payload)
                }
                Step::Record { payload: None, .. } => {}
                Step::Corrupt { .. } | Step::Torn { .. } | Step::Lost { .. } => corrupt += 1,
                Step::End => break,
            }
        }
        self.skipped_records += corrupt;
        Ok(corrupt)
    }

    fn record(&mut self, newest_unix_ms: i64, payload: Bytes) {
        let Ok(request) = PushRequest::decode(payload) else {
            self.skipped_records += 1;
            return;
        };
        for series in &request.series {
            self.series(newest_unix_ms, series);
        }
    }

    fn series(&mut self, newest_unix_ms: i64, series: &RawProfileSeries) {
        let matches = self.matches(series);
        let kept = SERVICE_LABELS.iter().map(|name| (*name, label(series, name)));
        let extra_labels: Vec<(&str, &str)> = kept.filter(|(_, value)| !value.is_empty()).collect();
        let mut total_ns = 0i64;
        for sample in &series.samples {
            let Ok(profile) = decode::profile(&sample.raw_profile, &mut self.buffer) else {
                self.skipped_records += 1;
                continue;
            };
            total_ns = total_ns.saturating_add(merge::total_ns(&profile));
            if matches {
                let added = self.merger.add(&profile, &extra_labels, self.query.frames);
                let (start, duration) = (profile.time_nanos, profile.duration_nanos);
                self.timeline.add(start, duration, newest_unix_ms, added.value_ns);
            }
        }
        self.series.add(series, total_ns);
    }

    fn matches(&self, series: &RawProfileSeries) -> bool {
        self.matchers.iter().all(|(name, values)| values.contains(&label(series, name)))
    }

    fn finish(self) -> Selection {
        let truncated = self.merger.truncated() || self.series.rest_ns.is_some();
        Selection {
            truncated,
            skipped_records: self.skipped_records,
            skipped_samples: self.merger.skipped_samples(),
            timeline: self.timeline.finish(),
            series: self.series.finish(),
            profile: self.merger.finish(),
        }
    }
}

fn label<'a>(series: &'a RawProfileSeries, name: &str) -> &'a str {
    series.labels.iter().find(|pair| pair.name == name).map_or("", |pair| &pair.value)
}

#[derive(Debug, Default)]
struct SeriesTotals {
    totals: HashMap<Vec<(String, String)>, i64>,
    label_bytes: usize,
    /// Of the series over the limit.
    rest_ns: Option<i64>,
}

impl SeriesTotals {
    fn add(&mut self, series: &RawProfileSeries, value_ns: i64) {
        let pairs = series.labels.iter().map(|pair| (pair.name.clone(), pair.value.clone()));
        let mut labels: Vec<(String, String)> = pairs.collect();
        labels.sort_unstable();
        if let Some(total) = self.totals.get_mut(&labels) {
            *total = total.saturating_add(value_ns);
            return;
        }
        let bytes: usize = labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        if self.totals.len() >= SERIES_MAX || self.label_bytes + bytes > SERIES_LABEL_BYTES_MAX {
            self.rest_ns = Some(self.rest_ns.unwrap_or(0).saturating_add(value_ns));
            return;
        }
        self.label_bytes += bytes;
        self.totals.insert(labels, value_ns);
    }

    fn finish(self) -> Vec<SeriesTotal> {
        let totals = self.totals.into_iter();
        let mut series: Vec<SeriesTotal> =
            totals.map(|(labels, value_ns)| SeriesTotal { labels, value_ns }).collect();
        series.sort_unstable_by(|a, b| b.value_ns.cmp(&a.value_ns).then_with(|| a.labels.cmp(&b.labels)));
        let rest =
            |value_ns| SeriesTotal { labels: vec![("service_name".into(), TRUNCATED.into())], value_ns };
        series.extend(self.rest_ns.map(rest));
        series
    }
}
