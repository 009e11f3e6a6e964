//! What is left after a crash, a flipped bit, a newer version, a full disk.

use std::fs;
use std::process::Command;

use proptest::prelude::*;

use super::{config, metric, request, segment_files, select_all, simple, total};
use crate::segment::{FILE_HEADER, FILE_HEADER_BYTES, RECORD_BYTES_MAX, file_name};
use crate::{Config, Error, Store};

fn record(value_ns: i64) -> Vec<u8> {
    request(&[("service_name=a", &simple("f", value_ns))])
}

/// The bytes of a segment with records of value 1, 10, 100 …, and each record's end.
fn segment_of(records: u32) -> (Vec<u8>, Vec<usize>) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(config(directory.path())).unwrap();
    let path = || segment_files(directory.path()).remove(0);
    let ends = (0..records)
        .map(|at| {
            store.append(i64::from(at), &record(10i64.pow(at))).unwrap();
            fs::metadata(path()).unwrap().len() as usize
        })
        .collect();
    (fs::read(path()).unwrap(), ends)
}

#[test]
fn a_torn_tail_is_cut_at_every_offset_and_appending_goes_on() {
    let (bytes, ends) = segment_of(3);
    for len in ends[1]..ends[2] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(file_name(0, 0));
        fs::write(&path, &bytes[..len]).unwrap();
        let store = Store::open(config(directory.path())).unwrap();
        assert_eq!(total(&select_all(&store).profile), 11, "cut at {len}");
        assert_eq!(fs::metadata(&path).unwrap().len() as usize, ends[1], "cut at {len}");
        assert_eq!(metric(&store, "kovar_store_torn_tails_total", None), u64::from(len != ends[1]));
        store.append(7, &record(5)).unwrap();
        drop(store);
        let store = Store::open(config(directory.path())).unwrap();
        let selection = select_all(&store);
        assert_eq!((total(&selection.profile), selection.skipped_records), (16, 0), "cut at {len}");
        assert_eq!(metric(&store, "kovar_store_corrupt_records_total", None), 0);
    }
}

#[test]
fn a_file_header_cut_short_leaves_an_empty_store() {
    for len in 0..=FILE_HEADER_BYTES {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(file_name(0, 3)), &FILE_HEADER[..len]).unwrap();
        let store = Store::open(config(directory.path())).unwrap();
        assert_eq!(metric(&store, "kovar_store_segments", None), 0, "{len}");
        store.append(1, &record(5)).unwrap();
        assert_eq!(total(&select_all(&store).profile), 5);
        assert_eq!(segment_files(directory.path()), [directory.path().join(file_name(1, 4))], "{len}");
    }
}

#[test]
fn a_bad_record_in_the_middle_is_skipped_and_counted_once() {
    let (mut bytes, ends) = segment_of(3);
    bytes[ends[1] - 1] ^= 1;
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(file_name(0, 0)), &bytes).unwrap();
    // One more segment, so that the broken one is not checked at open.
    fs::write(directory.path().join(file_name(9, 1)), segment_of(1).0).unwrap();
    let store = Store::open(config(directory.path())).unwrap();
    assert_eq!(metric(&store, "kovar_store_corrupt_records_total", None), 0);
    for _ in 0..2 {
        let selection = select_all(&store);
        assert_eq!((total(&selection.profile), selection.skipped_records), (102, 1));
        assert_eq!(metric(&store, "kovar_store_corrupt_records_total", None), 1);
    }
}

#[test]
fn an_impossible_length_ends_the_segment_and_keeps_its_bytes() {
    let (mut bytes, ends) = segment_of(3);
    let too_long = (RECORD_BYTES_MAX as u32 + 1).to_le_bytes();
    bytes[ends[0]..ends[0] + 4].copy_from_slice(&too_long);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(file_name(0, 0));
    fs::write(&path, &bytes).unwrap();
    let store = Store::open(config(directory.path())).unwrap();
    store.append(7, &record(5)).unwrap();
    let selection = select_all(&store);
    assert_eq!((total(&selection.profile), selection.skipped_records), (6, 1));
    assert_eq!(metric(&store, "kovar_store_corrupt_records_total", None), 1);
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(segment_files(directory.path()).len(), 2);
}

#[test]
fn an_unknown_version_is_renamed_and_its_number_never_used_again() {
    let directory = tempfile::tempdir().unwrap();
    let (mut bytes, _) = segment_of(1);
    bytes[8] = 9;
    let path = directory.path().join(file_name(0, 5));
    fs::write(&path, &bytes).unwrap();
    for _ in 0..2 {
        let store = Store::open(config(directory.path())).unwrap();
        assert_eq!(total(&select_all(&store).profile), 0);
    }
    let aside = directory.path().join(format!("{}.version-9", file_name(0, 5)));
    assert_eq!(fs::read(&aside).unwrap(), bytes);
    fs::write(&path, &bytes).unwrap();
    let store = Store::open(config(directory.path())).unwrap();
    assert_eq!(metric(&store, "kovar_store_set_aside_segments_total", None), 1);
    assert!(
        directory.path().join(format!("{}.version-9.1", file_name(0, 5))).exists(),
        "nothing overwritten"
    );
    store.append(1, &record(5)).unwrap();
    assert_eq!(segment_files(directory.path()), [directory.path().join(file_name(1, 6))]);
}

#[test]
fn a_second_open_is_refused_until_the_first_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(config(directory.path())).unwrap();
    let error = Store::open(config(directory.path())).unwrap_err();
    assert!(matches!(&error, Error::Locked { path } if path == directory.path()), "{error}");
    let clone = store.clone();
    drop(store);
    assert!(Store::open(config(directory.path())).is_err(), "a clone still holds it");
    drop(clone);
    Store::open(config(directory.path())).unwrap();
}

#[test]
fn a_path_that_is_a_file_is_an_error_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "").unwrap();
    let error = Store::open(config(&path)).unwrap_err();
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

/// A file system of its own, unmounted whatever happens.
struct Tmpfs {
    directory: tempfile::TempDir,
}

impl Tmpfs {
    fn mount(kib: u32) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"])
            .arg(directory.path())
            .output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self { directory })
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.directory.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            println!("cannot unmount {}", self.directory.path().display());
        }
    }
}

#[test]
fn a_full_disk_is_an_error_that_keeps_what_is_stored_and_appending_resumes() {
    let Some(tmpfs) = Tmpfs::mount(256) else {
        println!("skipped: mounting a tmpfs takes root");
        return;
    };
    let root = tmpfs.directory.path();
    let filler = root.join("filler");
    fs::write(&filler, vec![1; 128 << 10]).unwrap();
    let path = root.join("store");
    let store = Store::open(Config { path: path.clone(), ..config(root) }).unwrap();
    let mut appended = 0;
    let error = loop {
        match store.append(appended, &record(1)) {
            Ok(()) => appended += 1,
            Err(error) => break error,
        }
        assert!(appended < 10_000, "the disk never fills");
    };
    assert!(matches!(&error, Error::Full { path: named, .. } if named.starts_with(&path)), "{error:?}");
    assert!(appended > 10);
    assert_eq!(total(&select_all(&store).profile), appended);
    let stored = fs::metadata(&segment_files(&path)[0]).unwrap().len();
    assert_eq!(stored, metric(&store, "kovar_store_size_bytes", None), "nothing of the failed record stays");
    assert!(store.append(appended, &record(1)).is_err(), "still full");
    assert_eq!(metric(&store, "kovar_store_append_errors_total", None), 2);

    fs::remove_file(&filler).unwrap();
    store.append(appended, &record(1)).unwrap();
    drop(store);
    let store = Store::open(Config { path, ..config(root) }).unwrap();
    let selection = select_all(&store);
    assert_eq!((total(&selection.profile), selection.skipped_records), (appended + 1, 0));
}

#[test]
fn a_full_disk_at_the_first_record_leaves_no_file() {
    let Some(tmpfs) = Tmpfs::mount(64) else {
        println!("skipped: mounting a tmpfs takes root");
        return;
    };
    let root = tmpfs.directory.path();
    let store = Store::open(config(root)).unwrap();
    let large = vec![1; 128 << 10];
    assert!(matches!(store.append(1, &large), Err(Error::Full { .. })));
    assert_eq!(segment_files(root).len(), 0);
    store.append(1, &record(5)).unwrap();
    assert_eq!(total(&select_all(&store).profile), 5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn flipped_bytes_lose_only_what_they_hit(flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255u8), 1..4)) {
        let (mut bytes, ends) = segment_of(4);
        let mut hit = [false; 4];
        let mut length_hit = false;
        for (index, mask) in flips {
            let at = FILE_HEADER_BYTES + index.index(bytes.len() - FILE_HEADER_BYTES);
            bytes[at] ^= mask;
            let record = ends.iter().position(|end| at < *end).unwrap();
            let start = if record == 0 { FILE_HEADER_BYTES } else { ends[record - 1] };
            length_hit |= at - start < 4;
            hit[record] = true;
        }
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(file_name(0, 0)), &bytes).unwrap();
        let store = Store::open(config(directory.path())).unwrap();
        let selected = total(&select_all(&store).profile);
        let intact: i64 = (0..4).filter(|at| !hit[*at as usize]).map(|at| 10i64.pow(at)).sum();
        if length_hit {
            // What follows cannot be found, but nothing is made up: each digit is 0 or 1.
            prop_assert!(selected.to_string().bytes().all(|digit| digit <= b'1'), "{}", selected);
            prop_assert!(selected <= 1111);
        } else {
            // Two flips of one byte may undo each other, so that a record called hit is whole.
            prop_assert!(selected >= intact, "{} of {}", selected, intact);
        }
        store.append(9, &record(100_000)).unwrap();
        prop_assert_eq!(total(&select_all(&store).profile), selected + 100_000);
    }
}
