//! Tests of the module `recorder`.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::online::Online;
use crate::records::Mapped;

fn at(time_ns: u64) -> Record {
    Record { time_ns, body: Body::Lost(time_ns) }
}

#[test]
fn records_of_all_cpus_come_in_the_order_of_time_and_the_youngest_wait() {
    let mut held = vec![at(5), at(9), at(1), at(7)];
    assert_eq!(take_settled(&mut held, 7), [at(1), at(5), at(7)]);
    held.push(at(8));
    assert_eq!(take_settled(&mut held, 9), [at(8), at(9)]);
    assert!(held.is_empty());
}

#[test]
fn too_many_waiting_records_go_before_their_time() {
    let mut held: Vec<Record> = (0..HELD_MAX as u64 + 3).rev().map(at).collect();
    assert_eq!(take_settled(&mut held, 0), [at(0), at(1), at(2)]);
    assert_eq!(held.len(), HELD_MAX);
}

/// Reads until `done` says so, for 10 s at most.
fn read_until(recorder: &mut Recorder, mut done: impl FnMut(&[Record]) -> bool) -> Vec<Record> {
    let (mut records, until) = (Vec::new(), Instant::now() + Duration::from_secs(10));
    while !done(&records) {
        assert!(Instant::now() < until, "{} records, none of them as expected", records.len());
        recorder.read(|record| records.push(record));
    }
    records
}

#[test]
fn the_kernel_tells_of_a_child_from_its_fork_to_its_end() {
    let name = "the_kernel_tells_of_a_child_from_its_fork_to_its_end";
    let mut recorder = match Recorder::start(Online::open().unwrap().cpus().unwrap()) {
        Ok(recorder) => recorder,
        Err(error) => {
            println!("skipped {name}: {error}");
            return;
        }
    };
    assert!(recorder.bytes() >= 16 << 10);
    let before_ns = monotonic_ns();
    let mut child = Command::new("/bin/true").stdin(Stdio::null()).spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    let after_ns = monotonic_ns();
    let ends = |record: &Record| record.body == Body::Exit { pid, tid: pid };
    let records = read_until(&mut recorder, |records| records.iter().any(ends));

    assert!(records.is_sorted_by_key(|record| record.time_ns));
    let own: Vec<&Record> = records
        .iter()
        .filter(|record| match &record.body {
            Body::Mapped(Mapped { pid: of, .. }) | Body::Exec { pid: of } | Body::Exit { pid: of, .. } => {
                *of == pid
            }
            Body::Fork { pid: of, parent } => *of == pid && *parent == std::process::id(),
            Body::Lost(_) => false,
        })
        .collect();
    assert!(own.iter().all(|record| (before_ns..=after_ns).contains(&record.time_ns)));
    assert!(matches!(own.first().unwrap().body, Body::Fork { .. }));
    assert!(ends(own.last().unwrap()));
    let exec = own.iter().position(|record| record.body == Body::Exec { pid }).unwrap();
    let maps = |path: &str| {
        own[exec..]
            .iter()
            .any(|record| matches!(&record.body, Body::Mapped(mapped) if mapped.path.contains(path)))
    };
    assert!(maps("true") && maps("libc") && maps("[vdso]"), "{own:#?}");
}

#[test]
fn a_file_has_the_device_and_inode_that_stat_gives() {
    let name = "a_file_has_the_device_and_inode_that_stat_gives";
    let Ok(mut recorder) = Recorder::start(Online::open().unwrap().cpus().unwrap()) else {
        println!("skipped {name}: the kernel gives no process records here");
        return;
    };
    let program = std::fs::canonicalize("/bin/true").unwrap();
    Command::new(&program).status().unwrap();
    let path = program.display().to_string();
    let of_program = |record: &Record| match &record.body {
        Body::Mapped(mapped) if mapped.path == path => mapped.inode,
        _ => None,
    };
    let records =
        read_until(&mut recorder, |records| records.iter().any(|record| of_program(record).is_some()));
    let inode = records.iter().find_map(of_program).unwrap();
    let stat = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&program).unwrap());
    assert_eq!(inode.inode, stat);
}
