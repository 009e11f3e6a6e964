//! Behaviour of the store as a whole, and builders of profiles for all tests.

mod crash;
mod golden;
mod limits;
mod one_hour;
mod query;

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use model::pprof;
use model::push::{LabelPair, PushRequest, RawProfileSeries, RawSample};
use prost::Message;

use crate::merge::{KERNEL_MAPPING, SAMPLE_TYPE, SAMPLE_UNIT};
use crate::{Config, Query, Selection, Store};

pub(crate) const MIB: u64 = 1 << 20;
/// Old enough that no test's record expires.
pub(crate) const AGELESS_S: u64 = u64::MAX;

/// Builds a profile of CPU time, ids counting from 1.
#[derive(Debug, Default)]
pub(crate) struct ProfileBuilder {
    profile: pprof::Profile,
    strings: HashMap<String, i64>,
    locations: HashMap<(String, bool), u64>,
}

impl ProfileBuilder {
    pub(crate) fn new() -> Self {
        let mut builder = Self::default();
        builder.string("");
        let r#type = builder.string(SAMPLE_TYPE);
        let unit = builder.string(SAMPLE_UNIT);
        builder.profile.sample_type = vec![pprof::ValueType { r#type, unit }];
        builder.profile.period = 10_000_000;
        for (id, name) in [(1, "/usr/bin/app"), (2, KERNEL_MAPPING)] {
            let filename = builder.string(name);
            let build_id = builder.string(&format!("build-{id}"));
            let memory_limit = u64::MAX;
            let mapping = pprof::Mapping { id, filename, build_id, memory_limit, ..Default::default() };
            builder.profile.mapping.push(mapping);
        }
        builder
    }

    pub(crate) fn time(mut self, start_unix_ms: i64, duration_ms: i64) -> Self {
        self.profile.time_nanos = start_unix_ms * 1_000_000;
        self.profile.duration_nanos = duration_ms * 1_000_000;
        self
    }

    /// Frames leaf first; a leading `k:` makes a frame of the kernel.
    pub(crate) fn sample(mut self, frames: &[&str], pid: i64, value_ns: i64) -> Self {
        let location_id = frames.iter().map(|frame| self.location(frame)).collect();
        let label = vec![pprof::Label { key: self.string("pid"), num: pid, ..Default::default() }];
        self.profile.sample.push(pprof::Sample { location_id, value: vec![value_ns], label });
        self
    }

    pub(crate) fn build(self) -> pprof::Profile {
        self.profile
    }

    fn location(&mut self, frame: &str) -> u64 {
        let (name, is_kernel) = match frame.strip_prefix("k:") {
            Some(name) => (name, true),
            None => (frame, false),
        };
        let key = (name.to_owned(), is_kernel);
        if let Some(id) = self.locations.get(&key) {
            return *id;
        }
        let id = self.profile.location.len() as u64 + 1;
        let function = pprof::Function {
            id,
            name: self.string(name),
            filename: self.string("src/app.c"),
            ..Default::default()
        };
        self.profile.function.push(function);
        // By content, so that the same frame has the same address in every profile.
        let address = u64::from(crc32fast::hash(name.as_bytes()));
        let line = vec![pprof::Line { function_id: id, line: 7, column: 0 }];
        let mapping_id = if is_kernel { 2 } else { 1 };
        self.profile.location.push(pprof::Location { id, mapping_id, address, line, is_folded: false });
        self.locations.insert(key, id);
        id
    }

    fn string(&mut self, value: &str) -> i64 {
        let next = self.strings.len() as i64;
        let table = &mut self.profile.string_table;
        *self.strings.entry(value.to_owned()).or_insert_with(|| {
            table.push(value.to_owned());
            next
        })
    }
}

/// One profile of one sample.
pub(crate) fn simple(frame: &str, value_ns: i64) -> pprof::Profile {
    ProfileBuilder::new().sample(&[frame, "main"], 1, value_ns).build()
}

pub(crate) fn gzip(profile: &pprof::Profile) -> Bytes {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(&profile.encode_to_vec()).unwrap();
    Bytes::from(encoder.finish().unwrap())
}

/// A push request; labels are `name=value` separated by spaces.
pub(crate) fn request(series: &[(&str, &pprof::Profile)]) -> Vec<u8> {
    let series = series.iter().map(|(labels, profile)| raw_series(labels, gzip(profile)));
    PushRequest { series: series.collect() }.encode_to_vec()
}

pub(crate) fn raw_series(labels: &str, raw_profile: Bytes) -> RawProfileSeries {
    let pairs = labels.split_whitespace().map(|pair| {
        let (name, value) = pair.split_once('=').unwrap();
        LabelPair { name: name.into(), value: value.into() }
    });
    RawProfileSeries { labels: pairs.collect(), samples: vec![RawSample { raw_profile, id: String::new() }] }
}

pub(crate) fn config(path: &Path) -> Config {
    Config { path: path.to_owned(), bytes_max: 64 * MIB, age_max_s: AGELESS_S }
}

pub(crate) fn everything() -> Query {
    Query { from_unix_ms: i64::MIN, to_unix_ms: i64::MAX, ..Default::default() }
}

pub(crate) fn select_all(store: &Store) -> Selection {
    store.select(&everything()).unwrap()
}

pub(crate) fn total(profile: &pprof::Profile) -> i64 {
    profile.sample.iter().map(|sample| sample.value[0]).sum()
}

/// Folded stacks, root first and with the labels in front, to value. Panics on an id that is not valid.
pub(crate) fn folded(profile: &pprof::Profile) -> BTreeMap<String, i64> {
    let string = |index: i64| profile.string_table[usize::try_from(index).unwrap()].as_str();
    let function = |id: u64| profile.function.iter().find(|function| function.id == id).unwrap();
    let mut stacks = BTreeMap::new();
    for sample in &profile.sample {
        let mut parts: Vec<String> = sample
            .label
            .iter()
            .map(|label| match label.str {
                0 => format!("{}={}", string(label.key), label.num),
                value => format!("{}={}", string(label.key), string(value)),
            })
            .collect();
        parts.sort();
        for id in sample.location_id.iter().rev() {
            let location = profile.location.iter().find(|location| location.id == *id).unwrap();
            if location.mapping_id != 0 {
                let mapping =
                    profile.mapping.iter().find(|mapping| mapping.id == location.mapping_id).unwrap();
                string(mapping.filename);
                string(mapping.build_id);
            }
            for line in location.line.iter().rev() {
                let function = function(line.function_id);
                string(function.system_name);
                string(function.filename);
                parts.push(string(function.name).to_owned());
            }
        }
        *stacks.entry(parts.join(";")).or_insert(0) += sample.value[0];
    }
    assert_eq!(profile.string_table.first().map(String::as_str), Some(""));
    stacks
}

pub(crate) fn metric(store: &Store, name: &str, reason: Option<&str>) -> u64 {
    let metrics = store.metrics();
    let found = metrics.iter().find(|metric| {
        let has = |reason| metric.labels.iter().any(|(label, value)| *label == "reason" && value == reason);
        metric.name == name && reason.is_none_or(has)
    });
    found.unwrap_or_else(|| panic!("no metric {name} {reason:?}")).value as u64
}

/// Segment files in the order of their making.
pub(crate) fn segment_files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    files.sort();
    files
}
