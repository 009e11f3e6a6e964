//! The limits by size and age, and clocks that jump.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{MIB, config, metric, request, segment_files, select_all, simple, total};
use crate::log::Log;
use crate::{Config, Error, Store};

const HOUR_MS: i64 = 3_600_000;

fn record(value_ns: i64) -> Vec<u8> {
    request(&[("service_name=a", &simple("f", value_ns))])
}

fn now_unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

#[test]
fn the_size_limit_holds_after_every_append_and_the_oldest_go_first() {
    let directory = tempfile::tempdir().unwrap();
    let bytes_max = 8192;
    let store = Store::open(Config { bytes_max, ..config(directory.path()) }).unwrap();
    for at in 0..200 {
        store.append(at, &record(1)).unwrap();
        let files = segment_files(directory.path());
        let bytes: u64 = files.iter().map(|path| path.metadata().unwrap().len()).sum();
        assert!(bytes <= bytes_max, "{bytes} bytes after record {at}");
        assert_eq!(bytes, metric(&store, "kovar_store_size_bytes", None));
    }
    let kept = metric(&store, "kovar_store_records", None);
    let dropped = metric(&store, "kovar_store_dropped_records_total", Some("bytes"));
    assert_eq!(kept + dropped, 200);
    assert!(kept > 10, "only {kept} records kept");
    let selection = select_all(&store);
    assert_eq!(total(&selection.profile), kept as i64);
    let newest_only = crate::Query { from_unix_ms: dropped as i64, to_unix_ms: 199, ..super::everything() };
    assert_eq!(total(&store.select(&newest_only).unwrap().profile), kept as i64);
}

#[test]
fn a_smaller_size_limit_applies_at_open() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(Config { bytes_max: 32_768, ..config(directory.path()) }).unwrap();
    for at in 0..200 {
        store.append(at, &record(1)).unwrap();
    }
    drop(store);
    let store = Store::open(Config { bytes_max: 8192, ..config(directory.path()) }).unwrap();
    assert!(metric(&store, "kovar_store_size_bytes", None) <= 8192);
    assert!(metric(&store, "kovar_store_records", None) > 0);
}

#[test]
fn a_record_over_the_limit_is_refused_and_drops_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(Config { bytes_max: 8192, ..config(directory.path()) }).unwrap();
    store.append(1, &record(7)).unwrap();
    let error = store.append(2, &[1; 8192]).unwrap_err();
    assert!(matches!(error, Error::TooLarge { bytes: 8192, .. }), "{error}");
    assert_eq!(total(&select_all(&store).profile), 7);
    // The largest record that fits takes the place of all others.
    store.append(2, &[1; 8192 - 32]).unwrap();
    assert_eq!(metric(&store, "kovar_store_size_bytes", None), 8192);
    assert_eq!(metric(&store, "kovar_store_records", None), 1);
}

#[test]
fn limits_that_cannot_work_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    for bad in [
        Config { bytes_max: 0, ..config(directory.path()) },
        Config { age_max_s: 0, ..config(directory.path()) },
    ] {
        assert!(matches!(Store::open(bad), Err(Error::Config { .. })));
    }
}

#[test]
fn records_over_the_age_limit_go_at_open_and_at_append() {
    let directory = tempfile::tempdir().unwrap();
    let now = now_unix_ms();
    let store = Store::open(Config { age_max_s: 24 * 3600, ..config(directory.path()) }).unwrap();
    store.append(now - 3 * HOUR_MS, &record(1)).unwrap();
    store.append(now - HOUR_MS / 2, &record(10)).unwrap();
    drop(store);
    let store = Store::open(Config { age_max_s: 3600, ..config(directory.path()) }).unwrap();
    assert_eq!(total(&select_all(&store).profile), 10);
    assert_eq!(metric(&store, "kovar_store_dropped_records_total", Some("age")), 1);
    assert_eq!(metric(&store, "kovar_store_dropped_records_total", Some("bytes")), 0);
}

fn log(directory: &std::path::Path, age_max_s: u64) -> Log {
    let config = Config { path: directory.to_owned(), bytes_max: 64 * MIB, age_max_s };
    Log::open(&config, 0).unwrap()
}

#[test]
fn a_segment_spans_at_most_ten_minutes() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(directory.path(), 24 * 3600);
    for at in 0..240 {
        log.append(at * 15_000, at * 15_000, &record(1)).unwrap();
    }
    assert_eq!((log.segments(), log.records()), (6, 240));
}

#[test]
fn a_clock_that_jumped_ahead_and_back_neither_breaks_order_nor_stays_forever() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(directory.path(), 3600);
    let year_ms = 365 * 24 * HOUR_MS;
    let append = |log: &mut Log, now| log.append(now, now, &record(1)).unwrap();
    append(&mut log, 10 * HOUR_MS);
    // Ahead: what came before counts as old.
    append(&mut log, 10 * HOUR_MS + year_ms);
    assert_eq!(log.records(), 1);
    // Back: the record of the future stays …
    append(&mut log, 11 * HOUR_MS);
    append(&mut log, 11 * HOUR_MS + 1);
    assert_eq!((log.records(), log.segments()), (3, 2));
    assert_eq!(log.overlapping(11 * HOUR_MS, 12 * HOUR_MS).len(), 1);
    // … until one made after it is too old.
    append(&mut log, 13 * HOUR_MS);
    assert_eq!((log.records(), log.segments()), (1, 1));
    // A little back is just another record of the same segment.
    append(&mut log, 13 * HOUR_MS - 30_000);
    assert_eq!((log.records(), log.segments()), (2, 1));
    assert_eq!(log.overlapping(13 * HOUR_MS - 30_000, 13 * HOUR_MS - 30_000).len(), 1);
    // A moment in the past takes nothing along that is of the right time.
    append(&mut log, 1);
    append(&mut log, 13 * HOUR_MS);
    assert_eq!(log.records(), 3);
    for now in [i64::MIN, -1, 0, i64::MAX] {
        append(&mut log, now);
    }
    assert_eq!(log.records(), 1, "of the end of time");
}
