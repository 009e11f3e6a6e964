//! How long the query of one hour takes.

use std::time::{Duration, Instant};

use super::{ProfileBuilder, config, request, select_all, total};
use crate::Store;

const RECORDS: i64 = 240;
const SERIES: u64 = 20;
const SAMPLES: u64 = 100;
const STACKS: u64 = 400;
const QUERIES: usize = 8;

/// xorshift64: the same stacks in every run.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Stacks that a process group runs; each profile sees some of them, low numbers more often.
fn stacks(series: u64, state: &mut u64) -> Vec<Vec<String>> {
    let frame = |level: u64, choice: u64| format!("module{series}::function_{level}_{choice}");
    let mut stack = || {
        let depth = 8 + next(state) % 25;
        (0..depth).map(|level| frame(level, next(state) % (2 + level / 4))).collect()
    };
    (0..STACKS).map(|_| stack()).collect()
}

/// The store and its total.
fn fill(store: &Store, distinct: bool) -> (i64, usize) {
    let (mut state, mut total, mut bytes) = (0x9e37_79b9_7f4a_7c15, 0, 0);
    let mut pools: Vec<Vec<Vec<String>>> = (0..SERIES).map(|series| stacks(series, &mut state)).collect();
    for at in 0..RECORDS {
        let mut profiles = Vec::new();
        for series in 0..SERIES {
            if distinct {
                pools[series as usize] = stacks(series, &mut state);
            }
            let mut builder = ProfileBuilder::new().time(at * 15_000 + 1, 15_000);
            for sample in 0..SAMPLES {
                let choice =
                    if distinct { sample } else { next(&mut state) % (1 + next(&mut state) % STACKS) };
                let frames: Vec<&str> =
                    pools[series as usize][choice as usize].iter().map(String::as_str).collect();
                builder = builder.sample(&frames, 100 + (sample % 3) as i64, 10_000_000);
                total += 10_000_000;
            }
            profiles.push((format!("service_name=s{series} container_id=c{series} node=n"), builder.build()));
        }
        let series: Vec<_> = profiles.iter().map(|(labels, profile)| (labels.as_str(), profile)).collect();
        let record = request(&series);
        bytes += record.len();
        store.append((at + 1) * 15_000, &record).unwrap();
    }
    (total, bytes)
}

/// Time this thread has had on a CPU, so that what else the machine does is left out; the first field of
/// https://docs.kernel.org/scheduler/sched-stats.html.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
}

/// Prints the time of some queries; they use one thread.
fn measure(distinct: bool) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(config(directory.path())).unwrap();
    let (expected, bytes) = fill(&store, distinct);
    for _ in 0..QUERIES {
        let (started, cpu_before) = (Instant::now(), cpu_time());
        let selection = select_all(&store);
        let (wall, cpu) = (started.elapsed(), cpu_time() - cpu_before);
        assert_eq!(total(&selection.profile), expected);
        println!(
            "distinct {distinct}: {wall:?}, {cpu:?} of CPU, for {} profiles of {} bytes: {} stacks, truncated {}",
            RECORDS as u64 * SERIES,
            bytes / (RECORDS as u64 * SERIES) as usize,
            selection.profile.sample.len(),
            selection.truncated
        );
    }
}

#[test]
#[ignore = "a measurement: cargo test --release -p store -- --ignored --nocapture one_hour"]
fn one_hour_of_twenty_series_keeps_its_total_and_prints_its_time() {
    measure(false);
    // Hardly a stack seen twice, and more than fit.
    measure(true);
}
