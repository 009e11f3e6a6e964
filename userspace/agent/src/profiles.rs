//! What becomes of the profiler's batches: labels, gzip, push requests, the queue.

use crate::gzip::Gzip;
use bytes::Bytes;
use model::push::{LabelPair, PushRequest, RawProfileSeries, RawSample};
use model::{Metric, ProcessProfile, ProfileBatch};
use profiler::Profiler;
use prost::Message;
use queue::{Queue, Record};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use store::Store;

/// A request is closed before it grows beyond this; one profile alone may exceed it.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// Series in one request.
const REQUEST_SERIES_MAX: usize = 256;

/// A larger compressed profile is dropped: Pyroscope refuses what is larger than 4 MiB by default.
const PROFILE_BYTES_MAX: usize = 4 << 20;

/// A profiler and its push interval.
pub(crate) type Profiling = (Profiler, Duration);

/// Turns batches into records.
#[derive(Debug)]
pub(crate) struct Profiles {
    queue: Queue,
    store: Store,
    node: String,
    external_labels: RwLock<Vec<(String, String)>>,
    counts: Counts,
    pushed: Mutex<Option<Instant>>,
    gzip: Mutex<Gzip>,
}

#[derive(Debug, Default)]
struct Counts {
    profiles: AtomicU64,
    samples: AtomicU64,
    bytes: AtomicU64,
    too_large: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

impl Profiles {
    pub(crate) fn new(
        queue: Queue,
        store: Store,
        node: String,
        external_labels: Vec<(String, String)>,
    ) -> Self {
        Self {
            queue,
            store,
            node,
            external_labels: RwLock::new(external_labels),
            counts: Counts::default(),
            pushed: Mutex::new(None),
            gzip: Mutex::default(),
        }
    }

    /// Starts a profiler whose batches come here; its push interval beside it.
    ///
    /// # Errors
    /// A missing privilege or kernel feature, named with the way out.
    pub(crate) fn profile(self: &Arc<Self>, config: profiler::Config) -> Result<Profiling, profiler::Error> {
        let push_interval = Duration::from_millis(config.push_interval_ms);
        let profiler = Profiler::start(config, Box::new(ProfilesOutput(Arc::clone(self))))?;
        Ok((profiler, push_interval))
    }

    /// Labels for everything that is pushed from now on.
    pub(crate) fn set_external_labels(&self, labels: Vec<(String, String)>) {
        *self.external_labels.write().unwrap_or_else(PoisonError::into_inner) = labels;
    }

    /// When the last batch with a profile in it came.
    pub(crate) fn last_push(&self) -> Option<Instant> {
        *self.pushed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let counts = &self.counts;
        let counter =
            |name, help, count: &AtomicU64| Metric::counter(name, help, count.load(Ordering::Relaxed));
        let dropped = |reason, count| {
            counter(
                "kovar_profiles_dropped_profiles_total",
                "Profiles dropped before the queue, by reason.",
                count,
            )
            .with("reason", reason)
        };
        vec![
            counter("kovar_profiles_pushed_profiles_total", "Profiles given to the queue.", &counts.profiles),
            counter(
                "kovar_profiles_pushed_samples_total",
                "Samples in profiles given to the queue.",
                &counts.samples,
            ),
            counter(
                "kovar_profiles_pushed_bytes_total",
                "Bytes of requests given to the queue.",
                &counts.bytes,
            ),
            dropped("too_large", &counts.too_large),
            dropped("refused_by_queue", &counts.refused),
            dropped("compression_failed", &counts.failed),
        ]
    }

    /// Gives everything to the queue; returns how many samples it took.
    fn push(&self, batch: ProfileBatch) -> u64 {
        if !batch.profiles.is_empty() {
            *self.pushed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        let newest_unix_ms = unix_ms(batch.end_unix_ns);
        let mut request = Request::default();
        let mut taken = 0;
        for profile in batch.profiles {
            let samples = profile.samples;
            let Some(series) = self.series(profile) else { continue };
            if !request.takes(&series) {
                taken += self.enqueue(std::mem::take(&mut request), newest_unix_ms);
            }
            request.add(series, samples);
        }
        taken + self.enqueue(request, newest_unix_ms)
    }

    fn enqueue(&self, request: Request, newest_unix_ms: i64) -> u64 {
        let items = request.series.len() as u64;
        if items == 0 {
            return 0;
        }
        let payload = Bytes::from(PushRequest { series: request.series }.encode_to_vec());
        let bytes = payload.len() as u64;
        // At most REQUEST_SERIES_MAX, so the conversion cannot lose anything.
        let record = Record { items: items as u32, newest_unix_ms, payload };
        match self.queue.push(record) {
            Ok(_) => {
                self.counts.profiles.fetch_add(items, Ordering::Relaxed);
                self.counts.samples.fetch_add(request.samples, Ordering::Relaxed);
                self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
                request.samples
            }
            Err(error) => {
                self.counts.refused.fetch_add(items, Ordering::Relaxed);
                tracing::warn!(profiles = items, "profiles dropped: {error}");
                0
            }
        }
    }

    /// One process's series; `None` when it cannot be sent, which is counted.
    fn series(&self, profile: ProcessProfile) -> Option<RawProfileSeries> {
        let compressed = self.gzip.lock().unwrap_or_else(PoisonError::into_inner).encode(&profile.profile);
        let raw_profile = match compressed {
            Ok(bytes) => bytes,
            Err(error) => {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(process = profile.resource.process_name, "profile dropped: {error}");
                return None;
            }
        };
        if raw_profile.len() > PROFILE_BYTES_MAX {
            self.counts.too_large.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                process = profile.resource.process_name,
                bytes = raw_profile.len(),
                bytes_max = PROFILE_BYTES_MAX,
                "profile dropped: too large"
            );
            return None;
        }
        let external = self.external_labels.read().unwrap_or_else(PoisonError::into_inner);
        let labels = labels::profile_labels(&profile.resource, &self.node, &external);
        Some(RawProfileSeries {
            labels: labels.into_iter().map(|(name, value)| LabelPair { name, value }).collect(),
            samples: vec![RawSample { raw_profile: raw_profile.into(), ..RawSample::default() }],
        })
    }
}

/// A push request while it grows.
#[derive(Debug, Default)]
struct Request {
    series: Vec<RawProfileSeries>,
    bytes: usize,
    samples: u64,
}

impl Request {
    fn takes(&self, series: &RawProfileSeries) -> bool {
        self.series.is_empty()
            || (self.series.len() < REQUEST_SERIES_MAX
                && self.bytes + series.encoded_len() <= REQUEST_BYTES_MAX)
    }

    fn add(&mut self, series: RawProfileSeries, samples: u64) {
        self.bytes += series.encoded_len();
        self.samples += samples;
        self.series.push(series);
    }
}

/// The profiler's end of [`Profiles`].
#[derive(Debug)]
pub(crate) struct ProfilesOutput(pub(crate) Arc<Profiles>);

impl profiler::Output for ProfilesOutput {
    fn live_wanted(&self) -> bool {
        self.0.store.live_wanted()
    }

    fn live(&self, batch: ProfileBatch) {
        let newest_unix_ms = unix_ms(batch.end_unix_ns);
        let series = batch.profiles.into_iter().filter_map(|profile| self.0.series(profile)).collect();
        self.0.store.set_live(newest_unix_ms, Bytes::from(PushRequest { series }.encode_to_vec()));
    }

    fn push(&self, batch: ProfileBatch) -> u64 {
        self.0.push(batch)
    }

    fn container_id(&self, cgroup_path: &str) -> Option<String> {
        enrich::container_id(cgroup_path).map(|container| container.id)
    }
}

fn unix_ms(unix_ns: u64) -> i64 {
    i64::try_from(unix_ns / 1_000_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{PROFILE_BYTES_MAX, Profiles, ProfilesOutput, REQUEST_BYTES_MAX, REQUEST_SERIES_MAX};
    use model::push::PushRequest;
    use model::{ProcessProfile, ProfileBatch, Resource, pprof};
    use profiler::Output;
    use prost::Message;
    use queue::{Config, Cursor, Queue};
    use std::sync::Arc;
    use store::Store;

    struct Bench {
        output: ProfilesOutput,
        cursor: Cursor,
        _directory: tempfile::TempDir,
    }

    fn bench() -> Bench {
        let directory = tempfile::tempdir().expect("a directory");
        let config =
            store::Config { path: directory.path().join("store"), bytes_max: 1 << 30, age_max_s: 3600 };
        let queue = Queue::new(Config { bytes_max: 64 << 20 });
        let cursor = queue.cursor("test").expect("a cursor");
        let store = Store::open(config).expect("a store");
        let labels = vec![("cluster".to_owned(), "c".to_owned())];
        let output = ProfilesOutput(Arc::new(Profiles::new(queue, store, "node-1".into(), labels)));
        Bench { output, cursor, _directory: directory }
    }

    /// A profile that gzip cannot make smaller than `bytes`.
    fn profile(name: &str, bytes: usize) -> ProcessProfile {
        let mut state = 1u32;
        let noise = (0..bytes * 4 / 3).map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            char::from(b'!' + (state % 64) as u8)
        });
        ProcessProfile {
            resource: Resource { process_name: name.into(), ..Resource::default() },
            samples: 3,
            profile: pprof::Profile {
                string_table: vec![String::new(), noise.collect()],
                ..Default::default()
            },
        }
    }

    fn batch(profiles: Vec<ProcessProfile>) -> ProfileBatch {
        ProfileBatch { start_unix_ns: 0, end_unix_ns: 15_000_000_000, profiles }
    }

    fn requests(bench: &mut Bench) -> Vec<PushRequest> {
        let mut requests = Vec::new();
        while let Some((seq, record)) = bench.cursor.try_next() {
            assert_eq!(record.newest_unix_ms, 15_000);
            let request = PushRequest::decode(record.payload).expect("a request");
            assert_eq!(request.series.len(), record.items as usize);
            requests.push(request);
            bench.cursor.ack(seq);
        }
        requests
    }

    fn value(page: &[model::Metric], name: &str) -> f64 {
        page.iter().filter(|metric| metric.name == name).map(|metric| metric.value).sum()
    }

    #[test]
    fn each_process_is_a_labelled_series_with_a_gzipped_pprof() {
        let mut bench = bench();
        bench.output.push(batch(vec![profile("nginx", 10)]));
        let requests = requests(&mut bench);
        let [series] = requests[0].series.as_slice() else { panic!("one series") };
        let label =
            |name: &str| series.labels.iter().find(|pair| pair.name == name).map(|pair| pair.value.as_str());
        assert_eq!(label("service_name"), Some("nginx"));
        assert_eq!((label("node"), label("cluster")), (Some("node-1"), Some("c")));
        assert!(series.labels.is_sorted_by(|a, b| a.name < b.name), "{:?}", series.labels);
        assert!(series.samples[0].raw_profile.starts_with(&[0x1f, 0x8b]));
        assert_eq!(value(&bench.output.0.metrics(), "kovar_profiles_pushed_samples_total"), 3.0);
        assert!(bench.output.0.last_push().is_some());
    }

    #[test]
    fn requests_stay_within_their_limits_and_lose_nothing() {
        let mut bench = bench();
        let mut profiles: Vec<_> =
            (0..REQUEST_SERIES_MAX + 10).map(|i| profile(&format!("p{i}"), 10)).collect();
        profiles.extend((0..4).map(|i| profile(&format!("big{i}"), 400 << 10)));
        let count = profiles.len();
        bench.output.push(batch(profiles));
        let requests = requests(&mut bench);
        assert!(requests.len() >= 3);
        for request in &requests {
            assert!(
                request.series.len() <= REQUEST_SERIES_MAX
                    && request.encoded_len() <= REQUEST_BYTES_MAX + 4096
            );
        }
        assert_eq!(requests.iter().map(|request| request.series.len()).sum::<usize>(), count);
    }

    #[test]
    fn a_profile_that_is_too_large_is_counted_and_does_not_hold_up_others() {
        let mut bench = bench();
        bench.output.push(batch(vec![profile("huge", PROFILE_BYTES_MAX + 1), profile("small", 10)]));
        assert_eq!(requests(&mut bench)[0].series.len(), 1);
        assert_eq!(value(&bench.output.0.metrics(), "kovar_profiles_dropped_profiles_total"), 1.0);
    }

    #[test]
    fn an_empty_interval_pushes_nothing() {
        let mut bench = bench();
        bench.output.push(batch(Vec::new()));
        assert!(requests(&mut bench).is_empty() && bench.output.0.last_push().is_none());
    }
}
