//! Tests of the module `process`.

use std::process::{Child, Command, Stdio};

use abi::{EXEC_PAGES_UNCHECKED, MAPPING_ANONYMOUS, MAPPING_FILE, MAPPING_OPAQUE};

use super::*;
use crate::mapping::{self, Backing, FileKey};
use crate::{online::Online, recorder::Recorder, records::Mapped};

const FREE_ADDRESS: u64 = 0x1000_0000_0000;

/// When a process began, as the kernel would say, to a hundredth of a second.
fn start_ns(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let ticks: u64 = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap();
    // The two clocks are not read at one moment: the same for each call only in milliseconds.
    (ticks * crate::clock::STAT_TICK_NS)
        .saturating_sub(start_time::suspended_ns().next_multiple_of(1_000_000))
}

/// Pages that the kernel counts as executable: VmLib is `exec_vm` less VmExe (fs/proc/task_mmu.c).
fn kernel_exec_pages(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kib = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    (kib("VmExe:") + kib("VmLib:")) * 1024 / page_bytes() as u64
}

fn seen(pid: u32, exec_id: u32, time_ns: Option<u64>) -> Seen {
    let key = ImageKey { tgid: pid, exec_id, start_time_ns: start_ns(pid) };
    Seen { key, pid: Some(pid), name: "me".into(), kernel_thread: false, in_exec: false, time_ns }
}

/// This process, seen as one that began before the records.
fn with_me() -> (Processes, ImageKey) {
    let mut processes = Processes::default();
    let me = seen(std::process::id(), 0, None);
    let key = me.key;
    processes.see(me);
    (processes, key)
}

fn own_address() -> u64 {
    own_address as *const () as u64
}

fn mapped(pid: u32, start: u64, time_ns: u64) -> Record {
    let mapped = Mapped {
        pid,
        start,
        end: start + page_bytes() as u64,
        file_offset: 0,
        writable: false,
        inode: Some(mapping::FileKey::default()),
        path: "//anon".into(),
    };
    Record { time_ns, body: Body::Mapped(mapped) }
}

/// Lets the image be read again at once.
fn let_reread(processes: &mut Processes, key: &ImageKey) {
    processes.images.get_mut(key).unwrap().reread.after_ns = 0;
}

#[test]
fn an_image_that_began_before_the_records_is_read_from_proc_at_first_sight() {
    let (mut processes, key) = with_me();
    let now_ns = monotonic_ns();
    processes.records_applied(now_ns);
    assert_eq!(processes.knowledge(&key, now_ns), Knowledge::Complete);
    let mapping = processes.mapping_at(&key, now_ns, own_address()).unwrap();
    assert_eq!(mapping.kind, MAPPING_FILE);
    let frame = abi::file_frame(mapping.executable, 0x1234);
    let Place::File { binary, file_offset } = processes.place(&key, frame) else { panic!("no file") };
    assert!(binary.name.starts_with("profiler") && file_offset == 0x1234);
    let Place::File { binary, .. } = processes.place(&key, own_address()) else { panic!("no file") };
    assert_eq!(binary.slot, mapping.executable);
    assert!(matches!(processes.place(&key, 1), Place::Unknown));
    assert!(matches!(processes.place(&key, abi::file_frame(9999, 0)), Place::Unknown));
}

#[test]
fn an_image_first_met_inside_exec_gets_its_mappings_and_name_from_the_next_sample() {
    let mut processes = Processes::default();
    let inside = Seen { in_exec: true, name: "next".into(), ..seen(std::process::id(), 0, None) };
    let key = inside.key;
    processes.see(inside);
    assert_eq!(processes.maps_read, 0);
    processes.see(seen(std::process::id(), 0, None));
    let now_ns = monotonic_ns();
    processes.records_applied(now_ns);
    assert_eq!(processes.knowledge(&key, now_ns), Knowledge::Complete);
    processes.see(Seen { in_exec: true, name: "next".into(), ..seen(std::process::id(), 0, None) });
    assert_eq!(processes.get(&key).unwrap().name, "me");
}

#[test]
fn the_kernel_forgets_a_layout_that_a_record_will_change_until_the_record_is_applied() {
    let (mut processes, key) = with_me();
    processes.records_applied(monotonic_ns());
    assert!(processes.changed_layouts().iter().any(|(of, layout)| *of == key && layout.is_some()));
    let page = own_address() / page_bytes() as u64 * page_bytes() as u64;
    let mut record = mapped(key.tgid, page, monotonic_ns());
    let Body::Mapped(mapping) = &mut record.body else { panic!("no mapping") };
    (mapping.path, mapping.inode) = ("//anon".into(), None);
    assert_eq!(processes.foresee(&record), None, "code made at run time replaces no file");
    let Body::Mapped(mapping) = &mut record.body else { panic!("no mapping") };
    let inode = FileKey { major: 1, minor: 1, inode: 1 };
    (mapping.path, mapping.inode) = ("/lib/other.so".into(), Some(inode));
    assert_eq!(processes.foresee(&record), Some(key));
    assert_eq!(processes.foresee(&record), None, "forgotten already");
    assert!(processes.changed_layouts().is_empty());
    processes.record(&record);
    processes.records_applied(monotonic_ns());
    assert!(processes.changed_layouts().iter().any(|(of, layout)| *of == key && layout.is_some()));
}

#[test]
fn a_layout_has_as_many_executable_pages_as_the_kernel_counts() {
    let (mut processes, key) = with_me();
    let layouts = processes.changed_layouts();
    let (_, Some(layout)) = layouts.iter().find(|(of, _)| *of == key).unwrap() else { panic!("no layout") };
    assert_eq!(layout.exec_pages, kernel_exec_pages(std::process::id()));
    assert!(layout.mappings.is_sorted_by(|one, next| one.end <= next.start));
    assert!(processes.changed_layouts().is_empty(), "told once");
}

#[test]
fn a_process_that_only_has_the_same_id_gives_no_mappings() {
    let mut processes = Processes::default();
    let mut other = seen(std::process::id(), 0, None);
    other.key.start_time_ns += 10_000_000_000;
    let key = other.key;
    processes.see(other);
    assert!(matches!(processes.place(&key, own_address()), Place::Unknown));
    assert_eq!((processes.maps_unreadable, processes.knowledge(&key, 1)), (1, Knowledge::Gone));
}

#[test]
fn a_process_out_of_sight_has_no_mappings_and_nothing_is_waited_for() {
    let mut processes = Processes::default();
    let now_ns = monotonic_ns();
    let other = Seen { pid: None, ..seen(std::process::id(), 0, Some(now_ns)) };
    let key = other.key;
    processes.see(other);
    assert_eq!(processes.knowledge(&key, now_ns), Knowledge::Gone);
    assert_eq!((processes.maps_read, processes.next_due_ns()), (0, None));
}

#[test]
fn a_sample_waits_until_the_records_up_to_it_have_come() {
    let mut processes = Processes::default();
    let now_ns = monotonic_ns();
    let me = seen(std::process::id(), 0, Some(now_ns));
    let key = me.key;
    processes.see(me);
    assert_eq!(processes.knowledge(&key, now_ns), Knowledge::MayCome);
    assert_eq!((processes.maps_read, processes.next_due_ns()), (0, Some(now_ns + SETTLE_NS)));
    processes.records_applied(now_ns - 1);
    assert_eq!(processes.knowledge(&key, now_ns), Knowledge::MayCome);
    processes.records_applied(now_ns);
    assert_eq!(processes.knowledge(&key, now_ns), Knowledge::Complete);
    assert_eq!(processes.knowledge(&key, monotonic_ns() + 1), Knowledge::MayCome, "a later sample");
    assert_eq!(processes.maps_read, 1);
}

#[test]
fn what_does_not_come_within_a_second_is_gone() {
    let mut processes = Processes::default();
    let long_ago_ns = monotonic_ns() - 2 * MAY_COME_NS;
    let me = seen(std::process::id(), 0, Some(long_ago_ns));
    let key = me.key;
    processes.see(me);
    assert_eq!(processes.knowledge(&key, long_ago_ns), Knowledge::Gone);
    processes.records_applied(1);
    assert_eq!(processes.knowledge(&key, long_ago_ns), Knowledge::Complete, "without its records");
}

#[test]
fn an_image_replaced_by_exec_keeps_its_own_mappings_and_the_kernel_forgets_it() {
    let (mut processes, old) = with_me();
    let pid = std::process::id();
    processes.changed_layouts();
    let exec_ns = monotonic_ns();
    processes.record(&Record { time_ns: exec_ns, body: Body::Exec { pid } });
    processes.record(&mapped(pid, FREE_ADDRESS, exec_ns + 10));
    processes.records_applied(exec_ns + 20);
    let new = seen(pid, 1, Some(exec_ns + 15));
    let new_key = new.key;
    processes.see(new);
    assert_eq!(processes.mapping_at(&new_key, exec_ns + 15, FREE_ADDRESS).unwrap().kind, MAPPING_ANONYMOUS);
    assert!(processes.mapping_at(&new_key, exec_ns + 15, own_address()).is_none());
    assert!(processes.mapping_at(&old, exec_ns - 1, FREE_ADDRESS).is_none());
    let layouts = processes.changed_layouts();
    assert!(layouts.iter().any(|(key, layout)| *key == old && layout.is_none()), "{layouts:?}");
    assert!(layouts.iter().any(|(key, layout)| *key == new_key && layout.is_some()), "{layouts:?}");
}

#[test]
fn a_library_that_was_unloaded_is_gone_after_a_stale_layout_but_not_for_samples_of_before() {
    let (mut processes, key) = with_me();
    let mapped_ns = monotonic_ns();
    processes.record(&mapped(std::process::id(), FREE_ADDRESS, mapped_ns));
    processes.changed_layouts();
    let_reread(&mut processes, &key);
    processes.resync(&key, monotonic_ns(), End::LayoutStale);
    assert!(processes.mapping_at(&key, mapped_ns, FREE_ADDRESS).is_some());
    assert!(processes.mapping_at(&key, monotonic_ns(), FREE_ADDRESS).is_none());
    let layouts = processes.changed_layouts();
    assert_eq!(layouts.len(), 1);
    assert!(layouts[0].1.as_ref().unwrap().mappings.iter().all(|mapping| mapping.start != FREE_ADDRESS));
}

#[test]
fn proc_is_read_again_after_a_while_only_and_not_for_samples_of_before() {
    let (mut processes, key) = with_me();
    let before_ns = monotonic_ns() - 1_000_000_000;
    processes.resync(&key, before_ns, End::MappingUnknown);
    let now_ns = monotonic_ns();
    processes.resync(&key, now_ns, End::MappingUnknown);
    assert_eq!(processes.maps_read, 1, "too early");
    processes.records_applied(now_ns);
    assert_eq!((processes.maps_read, processes.knowledge(&key, now_ns)), (1, Knowledge::MayCome));
    let due_ns = processes.next_due_ns().unwrap();
    assert!(due_ns > now_ns && due_ns < now_ns + MAY_COME_NS);
    let_reread(&mut processes, &key);
    processes.read_due();
    assert_eq!((processes.maps_read, processes.knowledge(&key, now_ns)), (2, Knowledge::Complete));
    let_reread(&mut processes, &key);
    processes.resync(&key, before_ns, End::MappingUnknown);
    assert_eq!((processes.maps_read, processes.next_due_ns()), (2, None));
}

#[test]
fn a_kernel_that_goes_on_counting_otherwise_is_not_asked_any_more() {
    let (mut processes, key) = with_me();
    processes.changed_layouts();
    for time in 0..3 {
        assert_eq!(processes.unchecked, 0, "{time}");
        let_reread(&mut processes, &key);
        processes.resync(&key, monotonic_ns(), End::LayoutStale);
    }
    let layouts = processes.changed_layouts();
    assert_eq!(layouts[0].1.as_ref().unwrap().exec_pages, EXEC_PAGES_UNCHECKED);
    assert_eq!(processes.unchecked, 1);
}

#[test]
fn a_mapping_of_a_whole_file_is_executable_only_to_its_segments_end() {
    let (mut processes, key) = with_me();
    let maps = mapping::read(std::process::id()).unwrap();
    let own = mapping::find(&maps, own_address(), |mapping| (mapping.start, mapping.end)).unwrap();
    let Backing::File { path, inode } = &own.backing else { panic!("{own:?}") };
    let time_ns = monotonic_ns();
    let bytes = own.end - own.start;
    let whole = Mapped {
        pid: std::process::id(),
        start: FREE_ADDRESS,
        end: FREE_ADDRESS + 4 * bytes,
        file_offset: own.file_offset,
        writable: false,
        inode: Some(*inode),
        path: path.clone(),
    };
    processes.record(&Record { time_ns, body: Body::Mapped(whole) });
    let known = processes.mapping_at(&key, time_ns, FREE_ADDRESS).unwrap();
    assert_eq!((known.kind, known.end), (MAPPING_FILE, FREE_ADDRESS + bytes));
}

#[test]
fn memory_that_only_a_program_can_have_filled_is_code_made_at_run_time() {
    let (mut processes, key) = with_me();
    let time_ns = monotonic_ns();
    for (path, kind) in [("/memfd:jit (deleted)", MAPPING_ANONYMOUS), ("/no/such/file", MAPPING_OPAQUE)] {
        let mut record = mapped(std::process::id(), FREE_ADDRESS, time_ns);
        let Body::Mapped(mapped) = &mut record.body else { panic!("{record:?}") };
        mapped.path = path.into();
        mapped.inode = Some(mapping::FileKey { major: 0, minor: 1, inode: 7 });
        processes.record(&record);
        assert_eq!(processes.mapping_at(&key, time_ns, FREE_ADDRESS).unwrap().kind, kind, "{path}");
    }
}

#[test]
fn a_stale_layout_that_is_being_replaced_is_no_reason_to_read_proc() {
    let (mut processes, key) = with_me();
    let_reread(&mut processes, &key);
    let before_ns = monotonic_ns();
    processes.record(&mapped(std::process::id(), FREE_ADDRESS, before_ns));
    processes.resync(&key, monotonic_ns(), End::LayoutStale);
    assert_eq!(processes.changed_layouts().len(), 1);
    processes.resync(&key, before_ns, End::LayoutStale);
    assert_eq!((processes.maps_read, processes.next_due_ns()), (1, None));
    processes.resync(&key, monotonic_ns(), End::LayoutStale);
    assert_eq!(processes.maps_read, 2);
}

#[test]
fn unknown_addresses_alone_do_not_end_the_comparison_of_pages() {
    let (mut processes, key) = with_me();
    for _ in 0..5 {
        let_reread(&mut processes, &key);
        processes.resync(&key, monotonic_ns(), End::MappingUnknown);
    }
    assert_eq!((processes.maps_read, processes.unchecked), (6, 0));
}

#[test]
fn after_lost_records_an_image_is_read_again_when_it_is_met() {
    let (mut processes, key) = with_me();
    processes.record(&Record { time_ns: monotonic_ns(), body: Body::Lost(3) });
    let_reread(&mut processes, &key);
    assert_eq!(processes.maps_read, 1);
    processes.see(seen(std::process::id(), 0, None));
    processes.see(seen(std::process::id(), 0, None));
    assert_eq!((processes.maps_read, processes.record_losses), (2, 1));
}

#[test]
fn images_in_use_or_seen_lately_are_kept_and_the_kernel_forgets_the_others() {
    let (mut processes, key) = with_me();
    processes.changed_layouts();
    processes.retain(Duration::from_secs(60), |_| false);
    assert_eq!(processes.len(), 1);
    processes.retain(Duration::ZERO, |of| *of == key);
    assert_eq!((processes.len(), processes.changed_layouts()), (1, Vec::new()));
    processes.retain(Duration::ZERO, |_| false);
    assert_eq!((processes.len(), processes.changed_layouts()), (0, vec![(key, None)]));
    processes.see(seen(std::process::id(), 0, None));
    assert_eq!((processes.changed_layouts().len(), processes.maps_read), (1, 1), "what is known stays known");
}

/// Kills its child at the end.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Reads records until `done`, for 10 s at most.
fn read_until(recorder: &mut Recorder, processes: &mut Processes, mut done: impl FnMut(&Processes) -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !done(processes) {
        assert!(Instant::now() < until, "the records did not come");
        let applied_ns = recorder.read(|record| processes.record(&record));
        processes.records_applied(applied_ns);
    }
}

#[test]
fn a_program_that_the_kernel_told_of_is_known_without_reading_proc_also_when_it_is_dead() {
    let name = "a_program_that_the_kernel_told_of_is_known_without_reading_proc_also_when_it_is_dead";
    let mut recorder = match Recorder::start(Online::open().unwrap().cpus().unwrap()) {
        Ok(recorder) => recorder,
        Err(error) => {
            println!("skipped {name}: {error}");
            return;
        }
    };
    let mut processes = Processes::default();
    let child = Command::new("/bin/cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut child = Killed(child);
    let pid = child.0.id();
    // What it echoes shows that it has loaded everything.
    std::io::Write::write_all(child.0.stdin.as_mut().unwrap(), b"x").unwrap();
    std::io::Read::read_exact(child.0.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    let sample_ns = monotonic_ns();
    let cat = seen(pid, 1, Some(sample_ns));
    let key = cat.key;
    processes.see(cat);
    read_until(&mut recorder, &mut processes, |it| it.knowledge(&key, sample_ns) == Knowledge::Complete);

    assert_eq!(processes.maps_read, 0);
    let layouts = processes.changed_layouts();
    let (_, Some(layout)) = layouts.iter().find(|(of, _)| *of == key).unwrap() else { panic!("no layout") };
    assert_eq!(layout.exec_pages, kernel_exec_pages(pid), "{layout:#x?}");
    let maps = mapping::read(pid).unwrap();
    let ranges = |mappings: &mut dyn Iterator<Item = (u64, u64)>| mappings.collect::<Vec<_>>();
    let known = ranges(&mut layout.mappings.iter().map(|mapping| (mapping.start, mapping.end)));
    let is_own = |mapping: &&mapping::Mapping| mapping.backing != Backing::Vsyscall;
    assert_eq!(known, ranges(&mut maps.iter().filter(is_own).map(|mapping| (mapping.start, mapping.end))));
    let_reread(&mut processes, &key);
    processes.resync(&key, monotonic_ns(), End::MappingUnknown);
    assert_eq!((processes.maps_read, processes.changed_layouts()), (1, Vec::new()), "/proc shows the same");

    drop(child);
    read_until(&mut recorder, &mut processes, |it| it.timeline.changed.contains(&key));
    assert_eq!(processes.changed_layouts(), [(key, None)]);
    for (start, _) in known {
        let mapping = processes.mapping_at(&key, sample_ns, start).unwrap();
        let frame = if mapping.kind == MAPPING_FILE { abi::file_frame(mapping.executable, 0) } else { start };
        assert!(!matches!(processes.place(&key, frame), Place::Unknown), "{mapping:x?}");
    }
}
