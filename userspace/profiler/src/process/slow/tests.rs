//! Tests of the module `slow`.

use std::time::{Duration, Instant};

use abi::{MAPPING_FILE, MAPPING_OPAQUE, MAPPING_PENDING};

use super::*;
use crate::mapping;
use crate::process::{ImageKey, Seen};
use crate::records::{Body, Mapped, Record};

/// More than a machine under load needs to open a file.
const PLENTY: Duration = Duration::from_secs(60);

/// Beyond any process id.
const DEAD: u32 = 0x7fff_fff0;

fn own_address() -> u64 {
    own_address as *const () as u64
}

/// This process, as if it had just mapped its program.
fn map_own(processes: &mut Processes) -> (ImageKey, u64) {
    let pid = std::process::id();
    let (own, path, inode) = mapping::own(own_address());
    let mapping::Mapping { start, end, file_offset, .. } = own;
    let mapped = Mapped { pid, start, end, file_offset, writable: false, inode: Some(inode), path };
    let sample_ns = monotonic_ns();
    let bodies = [Body::Fork { pid, parent: pid + 1 }, Body::Exec { pid }, Body::Mapped(mapped)];
    for (body, time_ns) in bodies.into_iter().zip(sample_ns - 3..) {
        processes.record(&Record { time_ns, body });
    }
    let key = ImageKey { tgid: pid, exec_id: 1, start_time_ns: sample_ns - 4 };
    let name = "own".into();
    let (pid, time_ns) = (Some(pid), Some(sample_ns));
    processes.see(Seen { key, pid, name, kernel_thread: false, in_exec: false, time_ns });
    processes.records_applied(sample_ns + 1);
    (key, sample_ns)
}

fn kind(processes: &Processes, (key, sample_ns): (ImageKey, u64)) -> u32 {
    processes.mapping_at(&key, sample_ns, own_address()).unwrap().kind
}

#[test]
fn a_file_that_was_slow_is_shown_also_for_samples_of_before_once_it_is_open() {
    let (mut processes, begun) = (Processes::default(), Instant::now());
    let release = processes.binaries.hang();
    let own = map_own(&mut processes);
    assert_eq!(kind(&processes, own), MAPPING_PENDING);
    processes.timeline.changed.clear();
    assert!(processes.next_due_ns().is_some(), "it is tried again without an event");
    drop(release);
    while kind(&processes, own) == MAPPING_PENDING {
        assert!(begun.elapsed() < PLENTY, "it is never opened");
        for file in &mut processes.slow.files {
            file.wait_ns = WAIT_MIN_NS;
        }
        processes.open_slow(u64::MAX);
    }
    assert_eq!((kind(&processes, own), processes.slow.files.len()), (MAPPING_FILE, 0));
    assert!(processes.timeline.changed.contains(&own.0), "the kernel is told");
}

#[test]
fn an_answer_that_comes_late_is_not_lost() {
    let (mut processes, begun) = (Processes::default(), Instant::now());
    processes.binaries.set_open_wait(Duration::ZERO);
    let own = map_own(&mut processes);
    processes.binaries.set_open_wait(PLENTY);
    // Unless the thread was faster than nothing.
    while kind(&processes, own) == MAPPING_PENDING {
        assert!(begun.elapsed() < PLENTY, "it is never opened");
        for file in &mut processes.slow.files {
            file.wait_ns = WAIT_MIN_NS;
            // Only what is open already can be had now.
            file.pid = DEAD;
        }
        processes.open_slow(u64::MAX);
    }
    assert_eq!(kind(&processes, own), MAPPING_FILE);
}

#[test]
fn a_file_that_stays_slow_is_for_a_while_pending_and_then_tried_rarely_and_given_up() {
    let mut processes = Processes::default();
    let _stuck = processes.binaries.hang();
    let own = map_own(&mut processes);
    let mut tries = 0;
    while kind(&processes, own) == MAPPING_PENDING {
        tries += 1;
        assert!(tries < 20, "it is pending for ever");
        processes.timeline.changed.clear();
        processes.open_slow(u64::MAX);
    }
    assert_eq!((kind(&processes, own), tries, processes.slow.files.len()), (MAPPING_OPAQUE, 8, 1));
    assert!(processes.timeline.changed.contains(&own.0), "the kernel is told");
    while !processes.slow.files.is_empty() {
        tries += 1;
        assert!(tries < 20, "it is tried for ever");
        processes.open_slow(u64::MAX);
    }
    assert_eq!((kind(&processes, own), tries), (MAPPING_OPAQUE, 14));
}

#[test]
fn a_file_that_was_slow_for_long_is_shown_once_it_is_open() {
    let (mut processes, begun) = (Processes::default(), Instant::now());
    let release = processes.binaries.hang();
    let own = map_own(&mut processes);
    while kind(&processes, own) != MAPPING_OPAQUE {
        assert!(!processes.slow.files.is_empty(), "it is given up and nobody is told");
        processes.open_slow(u64::MAX);
    }
    drop(release);
    while kind(&processes, own) == MAPPING_OPAQUE {
        assert!(begun.elapsed() < PLENTY, "it is never opened");
        for file in &mut processes.slow.files {
            file.wait_ns = PENDING_WAIT_MAX_NS * 2;
        }
        processes.open_slow(u64::MAX);
    }
    assert_eq!(kind(&processes, own), MAPPING_FILE);
}

#[test]
fn files_that_are_tried_again_are_limited_and_counted() {
    let mut processes = Processes::default();
    for number in 0..=FILES_MAX {
        let target = processes.keep_slow(1, (0, 1), FileKey::default(), &number.to_string());
        assert_eq!(matches!(target, Target::Slow(_)), number < FILES_MAX);
        let again = processes.keep_slow(1, (0, 1), FileKey::default(), "0");
        assert!(matches!(again, Target::Slow(0)), "one file is tried once");
    }
    assert_eq!((processes.slow.files.len(), processes.slow.left_out), (FILES_MAX, 1));
    assert_eq!(processes.slow.take_due(u64::MAX).len(), TRIES_PER_ROUND_MAX);
}
