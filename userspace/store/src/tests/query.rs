//! What a query returns.

use bytes::Bytes;
use model::push::PushRequest;
use prost::Message;

use super::{
    ProfileBuilder, config, everything, folded, gzip, raw_series, request, segment_files, select_all, simple,
    total,
};
use crate::{Error, Frames, Matcher, Query, Store};

fn matcher(label: &str, value: &str) -> Matcher {
    Matcher { label: label.into(), value: value.into() }
}

/// Three services, each with one stack of its own and its own value.
fn filled() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(config(directory.path())).unwrap();
    let record = request(&[
        ("service_name=a container_id=c1 node=n", &simple("fa", 1)),
        ("service_name=b container_id=c2 node=n", &simple("fb", 10)),
        ("service_name=c node=n", &simple("fc", 100)),
    ]);
    store.append(1_000, &record).unwrap();
    (directory, store)
}

#[test]
fn what_was_appended_is_selected_also_after_reopening() {
    let (directory, store) = filled();
    store.append(2_000, &request(&[("service_name=a container_id=c1 node=n", &simple("fa", 5))])).unwrap();
    let expected = [
        ("container_id=c1;pid=1;service_name=a;main;fa".to_owned(), 6),
        ("container_id=c2;pid=1;service_name=b;main;fb".to_owned(), 10),
        ("pid=1;service_name=c;main;fc".to_owned(), 100),
    ];
    assert!(folded(&select_all(&store).profile).into_iter().eq(expected.clone()));
    drop(store);
    let store = Store::open(config(directory.path())).unwrap();
    store.append(3_000, &request(&[("service_name=c node=n", &simple("fc", 1000))])).unwrap();
    let selection = select_all(&store);
    let mut after = expected;
    after[2].1 = 1100;
    assert!(folded(&selection.profile).into_iter().eq(after));
    assert_eq!(segment_files(directory.path()).len(), 1, "appending goes on in the same segment");
    let series: Vec<i64> = selection.series.iter().map(|series| series.value_ns).collect();
    assert_eq!(series, [1100, 10, 6]);
    let first = &selection.series[0].labels;
    assert_eq!(*first, [("node".to_owned(), "n".to_owned()), ("service_name".to_owned(), "c".to_owned())]);
}

#[test]
fn matchers_are_or_within_a_label_and_and_across_labels() {
    let (_directory, store) = filled();
    let matched = |matchers: Vec<Matcher>| {
        let selection = store.select(&Query { matchers, ..everything() }).unwrap();
        assert_eq!(selection.series.len(), 3, "series are those before the matchers");
        total(&selection.profile)
    };
    assert_eq!(matched(vec![]), 111);
    assert_eq!(matched(vec![matcher("service_name", "a")]), 1);
    assert_eq!(matched(vec![matcher("service_name", "a"), matcher("service_name", "c")]), 101);
    assert_eq!(matched(vec![matcher("service_name", "a"), matcher("container_id", "c2")]), 0);
    assert_eq!(matched(vec![matcher("node", "n"), matcher("container_id", "c2")]), 10);
    assert_eq!(matched(vec![matcher("container_id", "")]), 100);
    assert_eq!(matched(vec![matcher("service_name", "none")]), 0);
}

#[test]
fn the_range_is_inclusive_and_an_empty_one_is_a_valid_profile() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(config(directory.path())).unwrap();
    for (at, value) in [(100, 1), (200, 10), (300, 100)] {
        store.append(at, &request(&[("service_name=a", &simple("f", value))])).unwrap();
    }
    let between = |from_unix_ms, to_unix_ms| {
        let selection = store.select(&Query { from_unix_ms, to_unix_ms, ..everything() }).unwrap();
        assert_eq!(selection.profile.string_table[0], "");
        total(&selection.profile)
    };
    assert_eq!(between(100, 200), 11);
    assert_eq!(between(101, 199), 0);
    assert_eq!(between(200, 200), 10);
    assert_eq!(between(301, i64::MAX), 0);
    let error = store.select(&Query { from_unix_ms: 2, to_unix_ms: 1, ..everything() }).unwrap_err();
    assert!(matches!(error, Error::Range { .. }), "{error}");
}

#[test]
fn frames_split_kernel_from_user_while_series_keep_their_totals() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(config(directory.path())).unwrap();
    let profile = ProfileBuilder::new()
        .sample(&["k:read", "k:entry", "main"], 1, 1)
        .sample(&["work", "main"], 1, 10)
        .sample(&["k:idle"], 1, 100)
        .build();
    store.append(1, &request(&[("service_name=a", &profile)])).unwrap();
    let stacks = |frames| {
        let selection = store.select(&Query { frames, step_ms: 10, ..everything() }).unwrap();
        assert_eq!(selection.series[0].value_ns, 111);
        let timeline: i64 = selection.timeline.iter().map(|bucket| bucket.value_ns).sum();
        assert_eq!(timeline, total(&selection.profile));
        folded(&selection.profile)
    };
    let with = |stack: &str, value| (format!("pid=1;service_name=a;{stack}"), value);
    assert!(stacks(Frames::Kernel).into_iter().eq([with("entry;read", 1), with("idle", 100)]));
    assert!(stacks(Frames::User).into_iter().eq([with("main", 1), with("main;work", 10)]));
    assert_eq!(stacks(Frames::All).len(), 3);
}

#[test]
fn the_timeline_follows_the_profiles_intervals() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(config(directory.path())).unwrap();
    for (end, value) in [(15_000, 150), (30_000, 300)] {
        let profile = ProfileBuilder::new().time(end - 15_000, 15_000).sample(&["f"], 1, value).build();
        store.append(end, &request(&[("service_name=a", &profile)])).unwrap();
    }
    // The first start is 0, which says nothing, so that its value stands at its record's time.
    let query = Query { from_unix_ms: 0, to_unix_ms: 30_000, step_ms: 5_000, ..everything() };
    let selection = store.select(&query).unwrap();
    let buckets: Vec<(i64, i64)> =
        selection.timeline.iter().map(|bucket| (bucket.start_unix_ms, bucket.value_ns)).collect();
    assert_eq!(buckets, [(15_000, 250), (20_000, 100), (25_000, 100)]);
    assert_eq!(selection.profile.time_nanos, 15_000_000_000);
    assert_eq!(selection.profile.duration_nanos, 15_000_000_000);
}

#[test]
fn unreadable_profiles_and_requests_are_skipped_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(config(directory.path())).unwrap();
    let good = raw_series("service_name=a", gzip(&simple("f", 3)));
    let bad = raw_series("service_name=b", Bytes::from_static(b"\x1f\x8bnot gzip"));
    store.append(1, &PushRequest { series: vec![bad, good] }.encode_to_vec()).unwrap();
    store.append(2, b"\xffnot a request").unwrap();
    let selection = select_all(&store);
    assert_eq!(selection.skipped_records, 2);
    assert_eq!(total(&selection.profile), 3);
}

#[test]
fn the_live_record_is_shown_until_its_interval_is_appended() {
    let (_directory, store) = filled();
    assert!(!store.live_wanted(), "nobody asked yet");
    let past = Query { from_unix_ms: 0, to_unix_ms: 1_000, ..everything() };
    store.select(&past).unwrap();
    assert!(!store.live_wanted(), "a query of the past does not want the present");
    assert_eq!(total(&select_all(&store).profile), 111);
    assert!(store.live_wanted());
    for value in [1_000, 2_000] {
        store.set_live(5_000, Bytes::from(request(&[("service_name=a", &simple("f", value))])));
        assert_eq!(total(&select_all(&store).profile), 111 + value, "replaced, not added up");
    }
    assert_eq!(total(&store.select(&past).unwrap().profile), 111, "the range ends before the live record");
    store.append(6_000, &request(&[("service_name=a", &simple("f", 3_000))])).unwrap();
    assert_eq!(total(&select_all(&store).profile), 3_111);
}
