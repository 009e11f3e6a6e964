//! Tests of the module `timeline`.

use super::room::ENDED_KEPT_NS;
use super::*;
use crate::process::area::Target;

const SECOND: u64 = 1_000_000_000;

fn key(start_time_ns: u64, exec_id: u32) -> ImageKey {
    ImageKey { tgid: 7, exec_id, start_time_ns }
}

fn area(page: u64, from_ns: u64) -> Area {
    let (start, end) = (page << 12, (page + 1) << 12);
    Area { start, end, file_offset: 0, target: Target::Anonymous, counted: true, from_ns, to_ns: u64::MAX }
}

fn holds(timeline: &Timeline, id: GenerationId, time_ns: u64, page: u64) -> bool {
    timeline.get(id).unwrap().mappings.at(time_ns, page << 12).is_some()
}

/// A process with pid 7 that was forked at 100, runs a program since 200 and maps page 1 at 210.
fn started() -> Timeline {
    let mut timeline = Timeline::default();
    timeline.fork(7, 1, 100);
    timeline.exec(7, 200);
    timeline.map(7, area(1, 210));
    timeline
}

#[test]
fn a_program_that_was_told_of_from_its_exec_on_is_known() {
    let mut timeline = started();
    let id = timeline.bind(key(95, 1), 7, Some(300), 300).unwrap();
    assert!(timeline.get(id).unwrap().known && holds(&timeline, id, 300, 1));
    assert!(timeline.changed.contains(&key(95, 1)) || timeline.changed.is_empty());
    assert_eq!(timeline.map(7, area(2, 310)), Some(Change::Changed));
    assert!(timeline.changed.contains(&key(95, 1)), "dlopen");
    assert!(holds(&timeline, id, 311, 2) && !holds(&timeline, id, 309, 2));
}

#[test]
fn an_exec_begins_with_nothing_and_the_old_program_keeps_its_own() {
    let mut timeline = started();
    timeline.exec(7, 400);
    timeline.map(7, area(5, 410));
    let old = timeline.bind(key(95, 1), 7, Some(390), 500).unwrap();
    let new = timeline.bind(key(95, 2), 7, Some(450), 500).unwrap();
    assert!(holds(&timeline, old, 390, 1) && !holds(&timeline, old, 450, 5));
    assert!(holds(&timeline, new, 450, 5) && !holds(&timeline, new, 450, 1));
    assert!(timeline.is_running(new) && !timeline.is_running(old));
    assert_eq!(timeline.bind(key(95, 1), 7, None, 600), Some(old), "as it was bound before");
}

#[test]
fn a_forked_child_has_its_parents_mappings_and_shares_them() {
    let mut timeline = started();
    timeline.fork(8, 7, 300);
    timeline.map(7, area(2, 310));
    let parent = timeline.bind(key(95, 1), 7, Some(400), 400).unwrap();
    let child =
        timeline.bind(ImageKey { tgid: 8, exec_id: 1, start_time_ns: 299 }, 8, Some(400), 400).unwrap();
    assert!(timeline.get(child).unwrap().known);
    assert!(holds(&timeline, child, 400, 1) && !holds(&timeline, child, 400, 2));
    assert!(holds(&timeline, parent, 400, 2));
    timeline.fork(9, 7, 500);
    let shared = |timeline: &Timeline, pid| {
        Arc::as_ptr(&timeline.get(timeline.newest(pid).unwrap()).unwrap().mappings)
    };
    assert_eq!(shared(&timeline, 7), shared(&timeline, 9));
    timeline.exec(9, 510);
    assert!(!holds(&timeline, timeline.newest(9).unwrap(), 520, 1), "after vfork and exec nothing is left");
    assert_eq!(timeline.relatives(8), [7, 1]);
}

#[test]
fn a_fork_told_late_gives_the_child_what_was_there_at_its_moment() {
    let mut timeline = started();
    timeline.map(7, area(2, 310));
    timeline.fork(8, 7, 300);
    let child = timeline.newest(8).unwrap();
    assert!(holds(&timeline, child, 400, 1) && !holds(&timeline, child, 400, 2));
}

#[test]
fn a_child_of_a_process_that_is_not_known_is_not_known_until_it_execs() {
    let mut timeline = Timeline::default();
    timeline.fork(8, 7, 300);
    assert_eq!(timeline.map(8, area(1, 310)), None);
    let child = timeline.bind(key(299, 0), 8, Some(320), 320).unwrap();
    assert!(!timeline.get(child).unwrap().known);
    timeline.exec(8, 400);
    assert_eq!(timeline.map(8, area(1, 410)), Some(Change::Changed));
}

#[test]
fn threads_do_not_end_their_process_nor_make_another() {
    let mut timeline = started();
    timeline.fork(7, 7, 300);
    let id = timeline.newest(7).unwrap();
    timeline.exit(7, 7, 400);
    assert!(timeline.is_running(id), "the first thread ended, another lives");
    timeline.exit(7, 9, 500);
    assert_eq!(timeline.get(id).unwrap().ended_ns, Some(500));
    assert_eq!(timeline.len(), 1);
}

#[test]
fn a_process_whose_threads_are_not_known_ends_with_its_first_and_lives_when_it_is_sampled_again() {
    let mut timeline = Timeline::default();
    let id = timeline.bind(key(50, 0), 7, None, 100).unwrap();
    timeline.exit(7, 9, 200);
    assert!(timeline.is_running(id));
    timeline.exit(7, 7, 300);
    assert!(!timeline.is_running(id));
    timeline.changed.clear();
    timeline.revive(id);
    assert!(timeline.is_running(id) && timeline.changed.contains(&key(50, 0)));
}

#[test]
fn an_exec_by_another_thread_than_the_first_is_the_same_process_also_where_threads_are_not_known() {
    let mut timeline = Timeline::default();
    let old = timeline.bind(key(50, 0), 7, None, 100).unwrap();
    timeline.exit(7, 7, 300);
    timeline.exec(7, 310);
    assert_eq!(timeline.map(7, area(1, 320)), Some(Change::Changed));
    let new = timeline.bind(key(50, 1), 7, Some(400), 400).unwrap();
    assert!(new != old && timeline.is_running(new) && !timeline.is_running(old));
    assert!(timeline.get(new).unwrap().known && holds(&timeline, new, 400, 1));
    timeline.exit(7, 7, 500);
    timeline.exec(7, 500 + 2 * SECOND);
    assert_eq!(
        timeline.bind(key(50, 2), 7, Some(600 + 2 * SECOND), 600 + 2 * SECOND),
        None,
        "another process"
    );
}

#[test]
fn a_reused_pid_does_not_meet_what_the_dead_process_mapped() {
    let mut timeline = started();
    let old = timeline.bind(key(95, 1), 7, Some(300), 300).unwrap();
    timeline.exit(7, 7, 500);
    timeline.fork(7, 1, 900);
    timeline.exec(7, 910);
    let new = timeline.bind(key(895, 1), 7, Some(950), 950).unwrap();
    assert_ne!(old, new);
    assert!(!holds(&timeline, new, 950, 1) && holds(&timeline, old, 400, 1));
    assert_eq!(timeline.bind(key(95, 1), 7, Some(400), 950), Some(old));
    assert_eq!(timeline.bind(key(600, 1), 7, Some(650), 950), None, "nobody with this pid began then");
}

#[test]
fn the_dead_are_known_for_some_time_and_then_forgotten() {
    let mut timeline = started();
    let id = timeline.bind(key(95, 1), 7, Some(300), 300).unwrap();
    timeline.exit(7, 7, SECOND);
    timeline.expire(SECOND + ENDED_KEPT_NS - 1);
    assert!(holds(&timeline, id, 300, 1));
    timeline.expire(SECOND + ENDED_KEPT_NS);
    assert!(timeline.get(id).is_none());
    assert_eq!((timeline.len(), timeline.areas_len), (0, 0));
}

#[test]
fn an_exec_that_was_lost_is_noticed_by_its_number() {
    let mut timeline = started();
    let old = timeline.bind(key(95, 1), 7, Some(300), 300).unwrap();
    let new = timeline.bind(key(95, 3), 7, Some(400), 400).unwrap();
    assert_ne!(old, new);
    assert!(!timeline.get(new).unwrap().known && timeline.is_running(new));
    assert_eq!(timeline.bind(key(95, 2), 7, Some(350), 400), None, "too late to know");
}

#[test]
fn without_a_moment_the_number_of_execs_tells_the_program() {
    let mut timeline = started();
    timeline.exec(7, 400);
    timeline.exec(7, 500);
    let last = timeline.bind(key(95, 3), 7, None, 600).unwrap();
    assert_eq!(timeline.get(last).unwrap().from_ns, 500);
    let first = timeline.bind(key(95, 1), 7, None, 600).unwrap();
    assert_eq!(timeline.get(first).unwrap().from_ns, 200);
}

#[test]
fn what_proc_showed_of_the_next_program_is_not_taken_for_this_one() {
    let mut timeline = Timeline::default();
    let id = timeline.bind(key(50, 0), 7, Some(300), 300).unwrap();
    assert!(timeline.replace(id, (310, 320), vec![area(1, 310)]));
    assert!(holds(&timeline, id, 300, 1));
    timeline.settle(315);
    timeline.exec(7, 305);
    assert!(!timeline.get(id).unwrap().known, "/proc was read after the exec");
    let mut sure = Timeline::default();
    let id = sure.bind(key(50, 0), 7, Some(300), 300).unwrap();
    sure.replace(id, (310, 320), vec![area(1, 310)]);
    sure.settle(330);
    sure.exec(7, 340);
    assert!(sure.get(id).unwrap().known && holds(&sure, id, 300, 1));
}

#[test]
fn after_a_loss_everything_alive_is_suspect_and_missed_ends_are_found() {
    let mut timeline = Timeline::default();
    let gone = 0x7fff_fff0;
    timeline.fork(gone, 1, 100);
    timeline.exec(gone, 110);
    timeline.fork(std::process::id(), 1, 100);
    timeline.exec(std::process::id(), 110);
    timeline.lose();
    let (dead, alive) = (timeline.newest(gone).unwrap(), timeline.newest(std::process::id()).unwrap());
    assert!(timeline.get(alive).unwrap().suspect && timeline.get(alive).unwrap().known);
    timeline.expire(200);
    assert!(timeline.is_running(alive) && !timeline.is_running(dead));
}

#[test]
fn too_many_processes_are_let_go_the_dead_first_and_the_sampled_last() {
    let mut timeline = started();
    let sampled = timeline.bind(key(95, 1), 7, Some(300), 300).unwrap();
    timeline.fork(8, 1, 100);
    timeline.exit(8, 8, 120);
    let dead = timeline.newest(8).unwrap();
    for pid in 0..LIVES_MAX as u32 {
        timeline.fork(1000 + pid, 1, 200 + u64::from(pid));
    }
    assert!(timeline.get(dead).is_none() && timeline.get(sampled).is_some());
    assert!(timeline.len() <= LIVES_MAX && timeline.evicted > 0);
    assert!(timeline.newest(1000).is_none() && timeline.newest(1000 + LIVES_MAX as u32 - 1).is_some());
}
