//! A segment file of any content: opened, read, appended to, opened again.
#![no_main]

#[path = "shared/scratch_store.rs"]
mod scratch_store;

use libfuzzer_sys::fuzz_target;
use scratch_store::{NEWEST_UNIX_MS, ScratchStore};
use store::Query;

fuzz_target!(|bytes: &[u8]| {
    let scratch = ScratchStore::with_segment(bytes);
    let query = Query { from_unix_ms: i64::MIN, to_unix_ms: i64::MAX, step_ms: 1000, ..Query::default() };
    let select = |store: &store::Store| match store.select(&query) {
        Ok(selection) => {
            scratch_store::check(&selection, &query);
            selection
        }
        Err(error) => panic!("{error}"),
    };
    let store = scratch.open();
    let before = select(&store);
    // What is there must not keep a new record from being stored and found.
    if let Err(error) = store.append(NEWEST_UNIX_MS, scratch_store::REQUEST) {
        panic!("{error}");
    }
    let after = select(&store);
    assert_eq!(after.skipped_records, before.skipped_records);
    assert!(after.series.iter().any(|series| series.labels == [("a".to_owned(), "b".to_owned())]));
    drop(store);
    assert_eq!(select(&scratch.open()).series, after.series);
});
