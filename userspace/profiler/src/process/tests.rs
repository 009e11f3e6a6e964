//! Tests of the module `process`.

use super::*;

/// When this process began, as the kernel would say.
fn own_start_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ticks: u64 = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap();
    (ticks * crate::clock::STAT_TICK_NS).saturating_sub(start_time::suspended_ns())
}

fn seen(tgid: u32, exec_id: u32) -> Seen {
    let key = ImageKey { tgid, exec_id, start_time_ns: own_start_ns() };
    Seen { key, pid: Some(tgid), name: "me".into(), kernel_thread: false }
}

#[test]
fn an_address_of_this_process_lies_in_its_own_file() {
    let mut processes = Processes::default();
    let me = seen(std::process::id(), 0);
    let key = me.key;
    processes.see(me);
    let address = an_address_of_this_process_lies_in_its_own_file as *const () as u64;
    let Places { places, cut, may_come } = processes.places(&key, &[address, 1, address]);
    assert!(cut && may_come, "the mappings were read just now");
    assert!(matches!(&places[0], Place::File { binary, .. } if binary.name.starts_with("profiler")));
    assert!(matches!(places[1], Place::Unknown));
    assert_eq!(places.len(), 2);
}

#[test]
fn an_image_replaced_by_exec_keeps_its_own_mappings() {
    let mut processes = Processes::default();
    let (old, new) = (seen(std::process::id(), 0), seen(std::process::id(), 1));
    let (old_key, new_key) = (old.key, new.key);
    processes.see(old);
    processes.images.get_mut(&old_key).unwrap().ranges.clear();
    processes.images.get_mut(&old_key).unwrap().reread_after = Instant::now();
    processes.see(new);
    let address = seen as *const () as u64;
    assert!(matches!(processes.places(&old_key, &[address]).places[0], Place::Unknown));
    assert!(matches!(processes.places(&new_key, &[address]).places[0], Place::File { .. }));
}

#[test]
fn images_in_use_or_seen_lately_are_kept() {
    let mut processes = Processes::default();
    for exec_id in 0..3 {
        processes.see(seen(std::process::id(), exec_id));
    }
    processes.retain(Duration::from_secs(60), |_| false);
    assert_eq!(processes.len(), 3);
    processes.retain(Duration::ZERO, |key| key.exec_id == 2);
    assert_eq!(processes.len(), 1);
}

#[test]
fn a_process_that_only_has_the_same_id_gives_no_mappings() {
    let mut processes = Processes::default();
    let mut other = seen(std::process::id(), 0);
    other.key.start_time_ns += 10_000_000_000;
    let key = other.key;
    processes.see(other);
    let address = seen as *const () as u64;
    assert!(matches!(processes.places(&key, &[address]).places[0], Place::Unknown));
    assert_eq!(processes.maps_unreadable, 1);
}

#[test]
fn an_exec_that_is_already_known_keeps_the_old_image_from_its_mappings() {
    let mut processes = Processes::default();
    let (old, new) = (seen(std::process::id(), 0), seen(std::process::id(), 1));
    let old_key = old.key;
    processes.note(new.key);
    processes.see(old);
    assert!(matches!(processes.places(&old_key, &[seen as *const () as u64]).places[0], Place::Unknown));
}

#[test]
fn an_address_mapped_since_is_found_when_asked_later() {
    let mut processes = Processes::default();
    let me = seen(std::process::id(), 0);
    let key = me.key;
    processes.see(me);
    let image = processes.images.get_mut(&key).unwrap();
    image.ranges.clear();
    let address = seen as *const () as u64;
    assert!(processes.places(&key, &[address]).may_come);
    processes.images.get_mut(&key).unwrap().reread_after = Instant::now();
    let later = processes.places(&key, &[address]);
    assert!(!later.cut && matches!(later.places[0], Place::File { .. }));
    assert_eq!(processes.images[&key].reread_wait, REREAD_MIN);
}

#[test]
fn an_image_met_inside_exec_is_read_again_without_being_asked_for() {
    let mut processes = Processes::default();
    let me = seen(std::process::id(), 0);
    let key = me.key;
    processes.see(me);
    processes.images.get_mut(&key).unwrap().ranges.clear();
    processes.read_young();
    assert!(processes.images[&key].ranges.is_empty(), "not due yet");
    for (due, _) in &mut processes.young {
        *due = Instant::now();
    }
    processes.read_young();
    assert!(!processes.images[&key].ranges.is_empty());
    assert_eq!(processes.next_young(), None);
}
