//! How long the query of one hour takes.

use std::time::{Duration, Instant};

use super::{ProfileBuilder, config, request, select_all, total};
use crate::Store;

const RECORDS: i64 = 240;
const SERIES: u64 = 20;
const SAMPLES: u64 = 100;

/// xorshift64: the same stacks in every run.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
#[ignore = "a measurement: cargo test --release -p store -- --ignored --nocapture one_hour"]
fn one_hour_of_twenty_series_is_read_in_well_under_a_second() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(config(directory.path())).unwrap();
    let (mut state, mut expected, mut bytes) = (0x9e37_79b9_7f4a_7c15, 0, 0);
    for at in 0..RECORDS {
        let profiles: Vec<_> = (0..SERIES)
            .map(|series| {
                let mut builder = ProfileBuilder::new().time(at * 15_000 + 1, 15_000);
                for sample in 0..SAMPLES {
                    let depth = 8 + next(&mut state) % 25;
                    let frames: Vec<String> = (0..depth)
                        .map(|level| {
                            format!("module{series}::function_{level}_{}", next(&mut state) % (2 + level / 4))
                        })
                        .collect();
                    let frames: Vec<&str> = frames.iter().map(String::as_str).collect();
                    builder = builder.sample(&frames, 100 + (sample % 3) as i64, 10_000_000);
                    expected += 10_000_000;
                }
                (format!("service_name=s{series} container_id=c{series} node=n"), builder.build())
            })
            .collect();
        let series: Vec<_> = profiles.iter().map(|(labels, profile)| (labels.as_str(), profile)).collect();
        let record = request(&series);
        bytes += record.len();
        store.append((at + 1) * 15_000, &record).unwrap();
    }
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let started = Instant::now();
        let selection = select_all(&store);
        best = best.min(started.elapsed());
        assert_eq!(total(&selection.profile), expected);
        println!(
            "{:?} for {} bytes, {} profiles of {} bytes: {} stacks, truncated {}",
            started.elapsed(),
            bytes,
            RECORDS as u64 * SERIES,
            bytes / (RECORDS as u64 * SERIES) as usize,
            selection.profile.sample.len(),
            selection.truncated
        );
    }
    assert!(best < Duration::from_secs(1), "{best:?}");
}
