//! Tables as a whole: budget, eviction, quarantine, and what a thousand executables come to.

mod builds;

use std::collections::HashSet;
use std::time::Duration;

use abi::{
    EXECUTABLE_EVICTED, EXECUTABLE_PENDING, EXECUTABLE_READY, EXECUTABLE_UNREADABLE, EXECUTABLES_MAX,
    PAGE_BYTES,
};
use unwind::Found;

use super::fake::{Bench, LARGE, PAGES, ROWS, file, rule_at};
use super::*;
use crate::pages::QUARANTINE;

const MIB: u64 = 1 << 20;
/// What a table may have of the 255 pages of 1 MiB: a 16th is kept for layouts.
const TABLE_PAGES: usize = 240;

fn failed(bench: &Bench, reason: &str) -> u64 {
    let metrics = bench.tables.metrics();
    metrics.builds_failed.iter().find(|(name, _)| *name == reason).map_or(0, |(_, count)| *count)
}

#[test]
fn a_sampled_executable_is_pending_until_its_rows_are_written_and_its_state_comes_last() {
    let mut bench = Bench::new(MIB);
    assert_eq!(bench.tables.state(3), EXECUTABLE_PENDING);
    bench.want(3, &format!("{PAGES} 4"));
    assert_eq!(bench.tables.state(3), EXECUTABLE_PENDING);
    assert!(bench.until_built(1), "a table became ready");
    assert!(!bench.tables.poll(), "nothing is new");
    assert_eq!(bench.tables.state(3), EXECUTABLE_READY);
    let entries = std::mem::take(&mut bench.maps().entries);
    let [(3, first, 7), (3, last, 7)] = entries.as_slice() else {
        panic!("the root page is not written before its entry: {entries:?}");
    };
    assert_eq!((first.state, last.state), (EXECUTABLE_PENDING, EXECUTABLE_READY));
    assert_eq!(first.root, last.root);
    assert_eq!(bench.tables.metrics().table_bytes, 4 * PAGE_BYTES as u64);
}

#[test]
fn the_rules_found_through_the_pages_are_those_of_the_rows_for_programs_and_for_user_space() {
    let mut bench = Bench::new(MIB);
    bench.want(1, &format!("{ROWS} 50000"));
    bench.until_built(1);
    let maps = bench.maps();
    let entry = maps.executables[&1];
    for offset in (0..200_000).step_by(3) {
        let expected = Found::Rule(rule_at(offset));
        assert_eq!(bench.tables.find_rule(1, offset), expected, "{offset}");
        assert_eq!(unwind::find_rule(&*maps, &entry, offset), expected, "{offset}");
    }
    assert_eq!(bench.tables.find_rule(1, 200_000), Found::NoRow);
    assert_eq!(bench.tables.find_rule(2, 0), Found::NoTable(abi::End::TablePending));
}

#[test]
fn the_table_least_recently_used_goes_when_another_needs_the_room_which_waits_for_the_quarantine() {
    let mut bench = Bench::new(MIB);
    bench.ready(1, 80);
    bench.advance(Duration::from_millis(1));
    bench.ready(2, 80);
    bench.advance(Duration::from_millis(1));
    bench.ready(3, 80);
    bench.idle();
    bench.tables.used(1);
    bench.want(4, &format!("{PAGES} 80"));
    assert!(!bench.until_built(4), "nothing is ready yet");
    let state = |bench: &Bench, slot| bench.tables.state(slot);
    assert_eq!(
        [1, 2, 3, 4].map(|slot| state(&bench, slot)),
        [EXECUTABLE_READY, EXECUTABLE_EVICTED, EXECUTABLE_READY, EXECUTABLE_PENDING,]
    );
    let entry = bench.maps().executables[&2];
    assert!(entry.state == EXECUTABLE_EVICTED && entry.root != 0, "a program may still read the rest of it");
    assert_eq!(bench.tables.find_rule(2, 0), Found::NoTable(abi::End::TableEvicted));
    assert_eq!(bench.tables.metrics().quarantine_bytes, 80 * PAGE_BYTES as u64);
    assert!(bench.tables.next_poll().is_some());
    bench.advance(QUARANTINE - Duration::from_nanos(1));
    assert!(!bench.tables.poll());
    bench.advance(Duration::from_nanos(1));
    assert!(bench.tables.poll());
    assert_eq!(state(&bench, 4), EXECUTABLE_READY);
    let metrics = bench.tables.metrics();
    assert_eq!((metrics.evictions, metrics.ready, metrics.evicted, metrics.quarantine_bytes), (1, 3, 1, 0));
}

#[test]
fn a_new_table_goes_without_when_all_others_are_used_and_nobody_is_thrown_out() {
    let mut bench = Bench::new(MIB);
    bench.ready(1, 120);
    bench.ready(2, 120);
    bench.tables.end_interval();
    bench.want(3, &format!("{PAGES} 50"));
    assert!(bench.until_built(3), "used a moment ago, although not in this interval");
    assert_eq!(bench.tables.state(3), EXECUTABLE_EVICTED);
    bench.idle();
    bench.tables.used(1);
    bench.tables.used(2);
    bench.advance(2 * executables::USED_LATELY);
    bench.want(4, &format!("{PAGES} 50"));
    assert!(bench.until_built(4), "used in this interval, although not a moment ago");
    assert_eq!(bench.tables.state(4), EXECUTABLE_EVICTED);
    assert_eq!([1, 2].map(|slot| bench.tables.state(slot)), [EXECUTABLE_READY; 2]);
    let metrics = bench.tables.metrics();
    assert_eq!((metrics.evictions, metrics.without_room), (0, 2));
}

#[test]
fn a_table_larger_than_the_budget_evicts_nobody() {
    let mut bench = Bench::new(MIB);
    bench.ready(1, 100);
    bench.idle();
    bench.want(2, &format!("{PAGES} {}", TABLE_PAGES + 1));
    assert!(bench.until_built(2));
    assert_eq!([1, 2].map(|slot| bench.tables.state(slot)), [EXECUTABLE_READY, EXECUTABLE_EVICTED]);
    assert_eq!(bench.tables.metrics().too_large, 1);
    bench.idle();
    bench.want(3, &format!("{PAGES} {TABLE_PAGES}"));
    bench.until_built(3);
    assert_eq!(bench.tables.state(1), EXECUTABLE_EVICTED, "the largest that fits does evict");
    bench.advance(QUARANTINE);
    bench.tables.poll();
    assert_eq!(bench.tables.state(3), EXECUTABLE_READY);
}

#[test]
fn an_evicted_table_is_built_again_when_there_is_room_and_at_most_every_third_interval() {
    let mut bench = Bench::new(MIB);
    bench.ready(1, 200);
    bench.idle();
    bench.want(2, &format!("{PAGES} 200"));
    bench.until_built(2);
    bench.advance(QUARANTINE);
    bench.tables.poll();
    assert_eq!([1, 2].map(|slot| bench.tables.state(slot)), [EXECUTABLE_EVICTED, EXECUTABLE_READY]);
    for _ in 0..2 {
        bench.idle();
        bench.want(1, &format!("{PAGES} 200"));
        assert_eq!(bench.tables.metrics().queued + bench.tables.metrics().builds as usize, 2, "too soon");
    }
    bench.idle();
    bench.tables.used(2);
    bench.want(1, &format!("{PAGES} 200"));
    assert_eq!(bench.tables.executables.ticket(1), None, "there is no room");
    bench.idle();
    bench.want(1, &format!("{PAGES} 200"));
    bench.until_built(3);
    assert_eq!([1, 2].map(|slot| bench.tables.state(slot)), [EXECUTABLE_EVICTED; 2]);
    bench.advance(QUARANTINE);
    assert!(bench.tables.poll());
    assert_eq!(bench.tables.state(1), EXECUTABLE_READY);
}

#[test]
fn a_storm_of_new_executables_never_puts_everything_into_quarantine() {
    let mut bench = Bench::new(4 * MIB);
    let capacity = 1023;
    for slot in 1..=96 {
        bench.ready(slot, 10);
    }
    bench.idle();
    let most = capacity / 8;
    for slot in 100..300 {
        bench.want(slot, &format!("{PAGES} 10"));
    }
    let mut rounds = 0;
    while bench.tables.metrics().pending > 0 {
        if bench.tables.metrics().waiting == 0 {
            bench.wait();
        }
        bench.tables.poll();
        let metrics = bench.tables.metrics();
        assert!(metrics.quarantine_bytes <= (most * PAGE_BYTES) as u64, "{metrics:?}");
        assert!(metrics.ready >= 96 - most / 10, "{metrics:?}");
        if metrics.waiting > 0 {
            bench.advance(QUARANTINE / 4);
            rounds += 1;
            assert!(rounds < 200, "it does not come to an end: {metrics:?}");
        }
    }
    // All old ones gave way; the rest of the new ones goes without, as those are in use.
    let metrics = bench.tables.metrics();
    assert_eq!((metrics.evictions, metrics.ready, metrics.evicted), (96, 96, 96 + 104));
}

#[test]
fn a_small_table_does_not_take_the_pages_that_a_large_one_waits_for() {
    let mut bench = Bench::new(MIB);
    bench.ready(1, 100);
    bench.ready(2, 100);
    bench.idle();
    bench.tables.used(2);
    bench.want(3, &format!("{PAGES} 130"));
    bench.until_built(3);
    bench.want(4, &format!("{PAGES} 30"));
    bench.until_built(4);
    assert_eq!([3, 4].map(|slot| bench.tables.state(slot)), [EXECUTABLE_PENDING, EXECUTABLE_EVICTED]);
    bench.want(5, &format!("{PAGES} 10"));
    bench.until_built(5);
    assert_eq!(bench.tables.state(5), EXECUTABLE_READY, "10 pages are to spare");
    bench.advance(QUARANTINE);
    assert!(bench.tables.poll());
    assert_eq!(bench.tables.state(3), EXECUTABLE_READY);
}

#[test]
fn a_table_waits_for_the_quarantine_rather_than_take_what_is_kept_for_layouts() {
    let mut bench = Bench::new(MIB);
    bench.ready(1, 100);
    bench.ready(2, 100);
    bench.idle();
    bench.tables.used(2);
    // 55 pages are free, 15 of them for layouts.
    bench.want(3, &format!("{PAGES} 50"));
    bench.until_built(3);
    assert!(!bench.tables.poll());
    assert_eq!(bench.tables.state(3), EXECUTABLE_PENDING);
    bench.advance(QUARANTINE);
    assert!(bench.tables.poll());
    assert_eq!([1, 3].map(|slot| bench.tables.state(slot)), [EXECUTABLE_EVICTED, EXECUTABLE_READY]);
}

#[test]
fn tables_live_with_what_is_there_when_the_kernel_gives_no_more_memory() {
    let mut bench = Bench::new(4 * MIB);
    bench.ready(1, 200);
    bench.maps().refuses_chunks = true;
    bench.want(2, &format!("{PAGES} 100"));
    bench.until_built(2);
    bench.tables.poll();
    assert_eq!([1, 2].map(|slot| bench.tables.state(slot)), [EXECUTABLE_READY, EXECUTABLE_EVICTED]);
    let metrics = bench.tables.metrics();
    assert_eq!((metrics.chunks_refused, metrics.memory_bytes), (1, MIB));
    bench.ready(3, 20);
}

#[test]
fn a_thousand_executables_and_one_of_2_8_million_rows_fit_the_default_budget() {
    let mut bench = Bench::new(96 * MIB);
    bench.want(1, &format!("{ROWS} 2800000"));
    bench.until_built(1);
    let small = file("rows 9000");
    for slot in 2..=1001 {
        let file = Arc::clone(&small);
        bench.tables.want_file(slot, u64::from(slot), || Some(file));
    }
    bench.until_built(1001);
    let metrics = bench.tables.metrics();
    assert_eq!((metrics.ready, metrics.evictions, metrics.without_room), (1001, 0, 0));
    let bytes = metrics.table_bytes;
    assert!(metrics.memory_bytes <= 96 * MIB && bytes > 11 * MIB, "{metrics:?}");
    for offset in (0..11_200_000).step_by(997) {
        assert_eq!(bench.tables.find_rule(1, offset), Found::Rule(rule_at(offset)), "{offset}");
    }
    assert_eq!(bench.tables.find_rule(700, 8_000), Found::Rule(rule_at(8_000)));
    let roots: HashSet<u32> = bench.maps().executables.values().map(|entry| entry.root).collect();
    assert_eq!(roots.len(), 1001);
}

#[test]
fn the_table_of_a_real_program_is_read_packed_and_found_again() {
    let executable = symbolizer::Executable {
        id: 1,
        file: std::fs::File::open("/proc/self/exe").unwrap(),
        path: "/x".into(),
        build_id: Vec::new(),
        symbol_bytes: 0,
        debug_bytes: 0,
    };
    assert!(table::size(&executable.file) > 1000);
    let expected = tables::read(&executable.file).unwrap();
    let kernel = Bench::new(8 * MIB);
    let mut tables = kernel.real(8 * MIB);
    tables.want_file(1, 1, || Some(Arc::new(executable)));
    while tables.metrics().builds == 0 {
        kernel.wait_for(&tables);
        tables.poll();
    }
    for (offset, rule) in expected.rows.iter().step_by(7) {
        let expected = expected.rules.get(usize::from(*rule)).map_or(Found::NoRow, |rule| Found::Rule(*rule));
        assert_eq!(tables.find_rule(1, *offset), expected, "{offset}");
    }
}
