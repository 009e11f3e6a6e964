//! Builds: failures, full queues, releases while one is under way.

use super::*;

#[test]
fn a_build_that_panics_or_fails_costs_only_its_own_table() {
    let mut bench = Bench::new(MIB);
    bench.want(1, "panic");
    assert!(bench.until_built(1), "it turned out impossible");
    bench.want(2, "nothing");
    bench.until_built(2);
    bench.ready(3, 1);
    assert_eq!([1, 2].map(|slot| bench.tables.state(slot)), [EXECUTABLE_UNREADABLE; 2]);
    assert_eq!(bench.maps().executables[&1].state, EXECUTABLE_UNREADABLE);
    assert_eq!((failed(&bench, "panicked"), failed(&bench, "no_rows")), (1, 1));
    bench.want(1, "pages 1");
    assert_eq!(bench.tables.metrics().queued, 0, "it is not tried again");
}

#[test]
fn a_file_that_is_closed_already_is_unreadable_unless_its_table_is_known() {
    let mut bench = Bench::new(MIB);
    bench.ready(1, 1);
    bench.tables.want_file(1, 1, || panic!("a known table needs no file"));
    bench.tables.want_file(2, 2, || None);
    assert_eq!([1, 2].map(|slot| bench.tables.state(slot)), [EXECUTABLE_READY, EXECUTABLE_UNREADABLE]);
    assert_eq!((failed(&bench, "closed"), bench.tables.metrics().builds), (1, 1));
}

#[test]
fn a_file_that_finds_the_queue_full_is_counted_and_wanted_again_later() {
    let mut bench = Bench::with_limits(MIB, Limits { ordinary: 1, large: 1 });
    bench.want(1, "gate 1");
    // Begun when the queue is empty, so that the next one fills it.
    while bench.tables.metrics().queued > 0 {
        std::thread::yield_now();
    }
    bench.want(2, &format!("{PAGES} 1"));
    bench.want(3, &format!("{PAGES} 1"));
    assert_eq!((bench.tables.metrics().queue_full, bench.tables.state(3)), (1, EXECUTABLE_PENDING));
    bench.gate.open();
    bench.until_built(2);
    bench.want(3, &format!("{PAGES} 1"));
    bench.until_built(3);
    assert_eq!([1, 2, 3].map(|slot| bench.tables.state(slot)), [EXECUTABLE_READY; 3]);
}

#[test]
fn a_large_file_does_not_hold_up_ordinary_ones_and_finds_a_queue_of_its_own_full() {
    let mut bench = Bench::with_limits(MIB, Limits { ordinary: 16, large: 1 });
    bench.want(1, &format!("{LARGE} 10"));
    bench.ready(2, 1);
    assert_eq!(bench.tables.state(1), EXECUTABLE_PENDING);
    while bench.tables.metrics().queued > 0 {
        std::thread::yield_now();
    }
    bench.want(3, &format!("{LARGE} 10"));
    bench.want(4, &format!("{LARGE} 10"));
    bench.ready(5, 1);
    assert_eq!(bench.tables.metrics().queue_full, 1);
    bench.gate.open();
    bench.until_built(4);
    assert_eq!([1, 3].map(|slot| bench.tables.state(slot)), [EXECUTABLE_READY; 2]);
    bench.want(4, &format!("{LARGE} 10"));
    bench.until_built(5);
    assert_eq!(bench.tables.state(4), EXECUTABLE_READY);
}

#[test]
fn a_builder_whose_tables_are_not_taken_stops_at_a_number_and_at_a_size() {
    for (content, most) in [("pages 1", 16), ("pages 1024", 2)] {
        let mut bench = Bench::new(64 * MIB);
        for slot in 1..=40 {
            bench.want(slot, content);
        }
        while bench.tables.metrics().queued > 40 - most {
            std::thread::yield_now();
        }
        bench.tables.poll();
        assert!(bench.tables.metrics().builds <= most as u64);
        bench.until_built(40);
        assert_eq!(bench.tables.metrics().pending, 0);
    }
}

#[test]
fn what_a_builder_finishes_after_the_release_is_thrown_away() {
    let mut bench = Bench::new(MIB);
    bench.want(1, "gate 5");
    while bench.tables.metrics().queued > 0 {
        std::thread::yield_now();
    }
    let waiting = file("pages 1");
    let watched = Arc::downgrade(&waiting);
    bench.tables.want_file(2, 2, || Some(waiting));
    bench.tables.release(1);
    bench.tables.release(2);
    assert!(watched.upgrade().is_none(), "the file of a build that was not begun is closed at once");
    bench.gate.open();
    bench.wait();
    assert!(!bench.tables.poll());
    let metrics = bench.tables.metrics();
    assert_eq!((metrics.builds, metrics.table_bytes, metrics.ready), (0, 0, 0));
    bench.advance(QUARANTINE);
    bench.tables.poll();
    assert_eq!(bench.maps().executables[&1], abi::Executable::default());
}

#[test]
fn a_released_slot_frees_its_pages_at_once_and_its_entry_after_the_quarantine() {
    let mut bench = Bench::new(MIB);
    bench.ready(1, 5);
    bench.tables.release(1);
    bench.tables.release(1);
    let entry = bench.maps().executables[&1];
    assert!(entry.state == EXECUTABLE_EVICTED && entry.root != 0);
    let metrics = bench.tables.metrics();
    assert_eq!((metrics.table_bytes, metrics.quarantine_bytes), (0, 5 * PAGE_BYTES as u64));
    assert_eq!((metrics.evictions, metrics.evicted), (0, 0), "nothing was evicted for another");
    assert!(bench.tables.next_poll().is_some());
    bench.advance(QUARANTINE);
    bench.tables.poll();
    assert_eq!(bench.maps().executables[&1], abi::Executable::default());
    assert_eq!(bench.tables.next_poll(), None);
    bench.ready(1, 5);
}

#[test]
fn another_binary_in_a_slot_never_meets_the_table_of_the_first() {
    let mut bench = Bench::new(MIB);
    bench.ready(1, 5);
    let other = || Some(file("pages 6"));
    bench.tables.want_file(1, 77, other);
    assert_eq!(
        bench.tables.state(1),
        EXECUTABLE_EVICTED,
        "the first one's table goes, and nothing is built yet"
    );
    bench.advance(QUARANTINE);
    bench.tables.poll();
    assert_eq!(bench.tables.state(1), EXECUTABLE_PENDING);
    bench.tables.want_file(1, 77, other);
    bench.until_built(2);
    assert_eq!(bench.tables.state(1), EXECUTABLE_READY);
    assert_eq!(bench.tables.metrics().table_bytes, 6 * PAGE_BYTES as u64);
}

#[test]
fn a_slot_out_of_range_is_ignored() {
    let mut bench = Bench::new(MIB);
    for slot in [0, EXECUTABLES_MAX, u32::MAX] {
        bench.tables.want_file(slot, 9, || panic!("it is not opened"));
        bench.tables.used(slot);
        bench.tables.release(slot);
        assert_eq!(bench.tables.state(slot), EXECUTABLE_PENDING);
    }
}
