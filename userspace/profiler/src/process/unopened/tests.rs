//! Tests of the module `unopened`.

use abi::{MAPPING_FILE, MAPPING_OPAQUE};

use super::*;
use crate::frame::Place;
use crate::mapping;
use crate::process::Seen;
use crate::records::{Body, Mapped, Record};

/// Beyond any process id.
const DEAD: u32 = 0x7fff_fff0;
const CGROUP: u64 = 77;
const SECOND_NS: u64 = 1_000_000_000;

fn own_address() -> u64 {
    own_address as *const () as u64
}

fn own_mapping() -> (mapping::Mapping, String, FileKey) {
    mapping::own(own_address())
}

/// A process that ran this test's program at its address, and was dead before its records were read; and when it was
/// sampled.
fn dead() -> (Processes, ImageKey, u64) {
    let mut processes = Processes::default();
    let sample_ns = monotonic_ns();
    let (own, path, inode) = own_mapping();
    let mapped = Mapped {
        pid: DEAD,
        start: own.start,
        end: own.end,
        file_offset: own.file_offset,
        writable: false,
        inode: Some(inode),
        path,
    };
    let bodies = [
        Body::Fork { pid: DEAD, parent: DEAD + 1 },
        Body::Exec { pid: DEAD },
        Body::Mapped(mapped),
        Body::Exit { pid: DEAD, tid: DEAD },
    ];
    let begun_ns = sample_ns - 1_000;
    for (body, time_ns) in bodies.into_iter().zip([begun_ns, begun_ns + 1, begun_ns + 2, sample_ns + 1]) {
        processes.record(&Record { time_ns, body });
    }
    processes.records_applied(sample_ns + 2);
    let key = ImageKey { tgid: DEAD, exec_id: 1, start_time_ns: begun_ns - 1 };
    processes.see(Seen {
        key,
        pid: Some(DEAD),
        name: "dead".into(),
        kernel_thread: false,
        in_exec: false,
        time_ns: Some(sample_ns),
    });
    (processes, key, sample_ns)
}

fn kind(processes: &Processes, key: &ImageKey, time_ns: u64) -> u32 {
    processes.mapping_at(key, time_ns, own_address()).unwrap().kind
}

/// Lets the file be looked for again at once.
fn let_look(processes: &mut Processes) {
    processes.unopened.looks_ns.clear();
}

#[test]
fn the_file_of_a_dead_process_is_opened_through_another_of_its_cgroup() {
    let (mut processes, key, sample_ns) = dead();
    assert_eq!((kind(&processes, &key, sample_ns), processes.binaries.unreadable), (MAPPING_OPAQUE, 1));
    assert!(matches!(processes.place(&key, own_address()), Place::Unknown));
    processes.timeline.changed.clear();
    assert!(processes.find_unopened(&key, CGROUP, || vec![DEAD, std::process::id()]));
    assert_eq!(
        (kind(&processes, &key, sample_ns), processes.binaries.found_through_mates),
        (MAPPING_FILE, 1)
    );
    let Place::File { binary, .. } = processes.place(&key, own_address()) else { panic!("no file") };
    assert!(binary.has_code() && binary.name.starts_with("profiler"));
    assert!(processes.timeline.changed.contains(&key), "the kernel is told");
    assert!(!processes.find_unopened(&key, CGROUP, || panic!("everything is found")));
}

#[test]
fn a_file_that_was_opened_meanwhile_is_found_without_another_process() {
    let (mut processes, key, sample_ns) = dead();
    let (own, path, inode) = own_mapping();
    let pid = std::process::id();
    let (start, end, relatives) = (own.start, own.end, &[]);
    let source = crate::executable::Source { pid, start, end, path: &path, inode, relatives };
    processes.binaries.open(&source).file().unwrap();
    assert!(processes.find_unopened(&key, CGROUP, || panic!("it is held")));
    assert_eq!(
        (kind(&processes, &key, sample_ns), processes.binaries.found_through_mates),
        (MAPPING_FILE, 0)
    );
}

#[test]
fn a_file_that_nobody_in_the_cgroup_shows_is_not_looked_for_with_each_sample() {
    let (mut processes, key, sample_ns) = dead();
    let mut asked = 0;
    for _ in 0..5 {
        assert!(!processes.find_unopened(&key, CGROUP, || {
            asked += 1;
            vec![DEAD]
        }));
    }
    assert_eq!((asked, kind(&processes, &key, sample_ns)), (1, MAPPING_OPAQUE));
    assert!(processes.find_unopened(&key, CGROUP + 1, || vec![std::process::id()]), "it moved");
}

#[test]
fn the_path_of_a_mate_that_leads_to_another_file_names_nothing() {
    let (mut processes, key, _) = dead();
    let (_, _, inode) = own_mapping();
    processes.unopened.files[0].0 = FileKey { inode: inode.inode + 1, ..inode };
    assert!(!processes.find_unopened(&key, CGROUP, || vec![std::process::id()]));
    processes.unopened.files[0].0 = inode;
    let_look(&mut processes);
    assert!(processes.find_unopened(&key, CGROUP, || vec![std::process::id()]));
}

#[test]
fn a_forked_child_of_a_dead_process_finds_its_own() {
    let (mut processes, key, sample_ns) = dead();
    let child = ImageKey { tgid: DEAD - 1, exec_id: 1, start_time_ns: sample_ns - 1 };
    let body = Body::Fork { pid: DEAD - 1, parent: DEAD };
    processes.record(&Record { time_ns: sample_ns, body });
    let time_ns = Some(sample_ns);
    let (name, pid) = ("child".into(), Some(DEAD - 1));
    processes.see(Seen { key: child, pid, name, kernel_thread: false, in_exec: false, time_ns });
    assert!(processes.find_unopened(&child, CGROUP, || vec![std::process::id()]));
    assert_eq!(
        (kind(&processes, &child, sample_ns), kind(&processes, &key, sample_ns)),
        (MAPPING_FILE, MAPPING_OPAQUE)
    );
    assert!(processes.find_unopened(&key, CGROUP, || panic!("it is held")));
}

#[test]
fn of_too_many_files_the_oldest_are_forgotten_and_numbers_are_not_used_again() {
    let mut files = UnopenedFiles::default();
    let key = |inode: usize| FileKey { major: 1, minor: 1, inode: inode as u64 };
    let first = files.keep(key(0), "/a");
    assert_eq!((files.keep(key(0), "/a"), files.keep(key(0), "/b")), (first, first + 1));
    for inode in 1..=FILES_MAX {
        files.keep(key(inode), "/a");
    }
    assert_eq!((files.files.len(), files.evicted), (FILES_MAX, 2));
    assert!(files.get(first).is_none() && files.get(first + 1).is_none());
    assert_eq!(files.get(first + 2), Some(&(key(1), "/a".to_owned())));
    assert!(files.keep(key(0), "/a") > first + FILES_MAX as u64);
}

#[test]
fn looks_are_limited_by_file_and_cgroup_and_in_all() {
    let mut files = UnopenedFiles::default();
    assert!(
        files.may_look(1, 1, 0) && !files.may_look(1, 1, SECOND_NS - 1) && files.may_look(1, 1, SECOND_NS)
    );
    for cgroup_id in 2..=LOOKS_MAX as u64 {
        assert!(files.may_look(1, cgroup_id, SECOND_NS));
    }
    assert!(!files.may_look(2, 1, SECOND_NS) && files.looks_left_out == 1);
    assert!(files.may_look(2, 1, 2 * SECOND_NS) && files.looks_ns.len() == 1);
}
