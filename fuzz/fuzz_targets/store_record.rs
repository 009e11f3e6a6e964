//! A push request with profiles in it, stored and read back: what lies behind a right checksum.
#![no_main]

#[path = "shared/scratch_store.rs"]
mod scratch_store;

use libfuzzer_sys::fuzz_target;
use scratch_store::{NEWEST_UNIX_MS, ScratchStore};
use store::{Frames, Matcher, Query};

fuzz_target!(|data: &[u8]| {
    let Some((choice, request)) = data.split_first() else { return };
    let scratch = ScratchStore::empty();
    let store = scratch.open();
    if let Err(error) = store.append(NEWEST_UNIX_MS, request) {
        panic!("{error}");
    }
    let matchers = match choice & 1 {
        0 => Vec::new(),
        _ => vec![Matcher { label: "service_name".to_owned(), value: "golden".to_owned() }],
    };
    let frames = [Frames::All, Frames::Kernel, Frames::User][usize::from(choice >> 1) % 3];
    let query = Query {
        from_unix_ms: 0,
        to_unix_ms: NEWEST_UNIX_MS,
        matchers,
        frames,
        step_ms: u64::from(*choice) * 100,
    };
    match store.select(&query) {
        Ok(selection) => scratch_store::check(&selection, &query),
        Err(error) => panic!("{error}"),
    }
});
