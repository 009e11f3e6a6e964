//! A store in a directory of its own, in memory where the machine has such a place.

use std::fs;
use std::path::Path;

use store::{Config, Query, Selection, Store};
use tempfile::TempDir;

/// In 2023.
#[allow(dead_code, reason = "not every target appends")]
pub(crate) const NEWEST_UNIX_MS: i64 = 1_700_000_015_000;
/// A push request of one series without profiles, labelled `a="b"`.
#[allow(dead_code, reason = "not every target appends")]
pub(crate) const REQUEST: &[u8] = b"\x0a\x08\x0a\x06\x0a\x01a\x12\x01b";

const IN_MEMORY: &str = "/dev/shm";

pub(crate) struct ScratchStore(TempDir);

impl ScratchStore {
    pub(crate) fn empty() -> Self {
        let dir = if Path::new(IN_MEMORY).is_dir() { TempDir::new_in(IN_MEMORY) } else { TempDir::new() };
        Self(dir.unwrap_or_else(|error| panic!("a temporary directory: {error}")))
    }

    #[allow(dead_code, reason = "not every target begins with a segment")]
    pub(crate) fn with_segment(bytes: &[u8]) -> Self {
        let scratch = Self::empty();
        let path = scratch.0.path().join("0001700000015000-0000000000.seg");
        fs::write(&path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        scratch
    }

    pub(crate) fn open(&self) -> Store {
        let config = Config { path: self.0.path().to_owned(), bytes_max: 64 << 20, age_max_s: u64::MAX };
        Store::open(config).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// What holds for every answer.
#[allow(dead_code, reason = "not every target asks the store itself")]
pub(crate) fn check(selection: &Selection, query: &Query) {
    let values = |values: &mut dyn Iterator<Item = i64>| values.map(i128::from).sum::<i128>();
    let profile_ns = values(&mut selection.profile.sample.iter().map(|sample| sample.value[0]));
    let timeline_ns = values(&mut selection.timeline.iter().map(|bucket| bucket.value_ns));
    if query.step_ms > 0 && profile_ns < i128::from(i64::MAX) && timeline_ns < i128::from(i64::MAX) {
        assert_eq!(timeline_ns, profile_ns);
    }
}
