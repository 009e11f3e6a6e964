//! The bytes of a segment, so that a change of the format cannot go unseen.

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use model::push::PushRequest;
use prost::Message;

use super::{ProfileBuilder, config, folded, raw_series, segment_files, select_all};
use crate::Store;
use crate::segment::file_name;

const FIRST_UNIX_MS: i64 = 1_700_000_015_000;

/// Plain profiles, since the bytes of gzip are the compressor's business.
fn record(at: i64) -> Vec<u8> {
    let start = FIRST_UNIX_MS - 15_000 + at * 15_000;
    let profile =
        ProfileBuilder::new().time(start, 15_000).sample(&["k:read", "work", "main"], 42, 10 + at).build();
    let series = raw_series("service_name=golden container_id=0123", Bytes::from(profile.encode_to_vec()));
    PushRequest { series: vec![series] }.encode_to_vec()
}

#[test]
fn a_segment_of_version_1_is_written_and_read_as_ever() {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/segment-v1.seg");
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(config(directory.path())).unwrap();
    for at in 0..2 {
        store.append(FIRST_UNIX_MS + at * 15_000, &record(at)).unwrap();
    }
    drop(store);
    let files = segment_files(directory.path());
    assert_eq!(files, [directory.path().join("0001700000015000-0000000000.seg")]);
    let written = fs::read(&files[0]).unwrap();
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        fs::write(&golden, &written).unwrap();
    }
    let expected = fs::read(&golden).unwrap();
    assert!(written == expected, "the format changed: raise its version, or bless with UPDATE=1");

    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(file_name(FIRST_UNIX_MS, 0)), expected).unwrap();
    let selection = select_all(&Store::open(config(directory.path())).unwrap());
    let stack = "container_id=0123;pid=42;service_name=golden;main;work;read".to_owned();
    assert!(folded(&selection.profile).into_iter().eq([(stack, 21)]));
    assert_eq!(selection.skipped_records, 0);
}
