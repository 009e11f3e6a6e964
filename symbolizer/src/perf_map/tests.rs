//! Tests of the module `perf_map`.

use std::os::unix::fs::symlink;

use proptest::prelude::*;

use super::*;

const PID: u32 = 4321;

/// A /proc with one process in it, whose pid in its own namespace is 7.
fn proc_with_process(start_ticks: u64) -> tempfile::TempDir {
    let proc = tempfile::tempdir().unwrap();
    let process = proc.path().join(PID.to_string());
    fs::create_dir_all(process.join("root/tmp")).unwrap();
    fs::write(process.join("status"), format!("Name:\tjava\nNSpid:\t{PID}\t7\n")).unwrap();
    set_start(proc.path(), start_ticks);
    proc
}

fn set_start(proc: &Path, start_ticks: u64) {
    let before: String = (0..18).map(|n| format!(" {n}")).collect();
    let stat = format!("{PID} (a) b) S{before} {start_ticks} 0");
    fs::write(proc.join(PID.to_string()).join("stat"), stat).unwrap();
}

fn map_path(proc: &Path) -> PathBuf {
    proc.join(PID.to_string()).join("root/tmp/perf-7.map")
}

fn maps(proc: &Path) -> PerfMaps {
    PerfMaps::new(proc.into(), 2, 1 << 20)
}

fn one(maps: &mut PerfMaps, address: u64, now: Instant) -> Result<String, Reason> {
    maps.lookup(PID, &[address], now).remove(0).map(|name| name.to_string())
}

#[test]
fn a_later_entry_takes_the_memory_of_an_earlier_one() {
    let table =
        parse(&b"1000 100 first\n1040 20 inner method(int)\n0x2000 0x10 hex\n10f0 20 last\n"[..]).unwrap();
    let expected = [
        (0xfff, None),
        (0x1000, Some("first")),
        (0x103f, Some("first")),
        (0x1040, Some("inner method(int)")),
        (0x105f, Some("inner method(int)")),
        (0x1060, Some("first")),
        (0x10f0, Some("last")),
        (0x110f, Some("last")),
        (0x1110, None),
        (0x200f, Some("hex")),
    ];
    for (address, name) in expected {
        assert_eq!(table.lookup(address), name, "{address:#x}");
    }
}

#[test]
fn nonsense_and_an_unfinished_line_are_left_out() {
    let text = b"zz 10 a\n10 0 empty\nffffffffffffffff 2 wraps\n100 10\n\xff\xfe\n200 10 good\n300 10 unfini";
    let table = parse(&text[..]).unwrap();
    assert_eq!(table.pieces.len(), 1);
    assert_eq!(table.lookup(0x205), Some("good"));
}

proptest! {
    #[test]
    fn every_address_has_the_name_of_the_last_line_that_covers_it(
        lines in proptest::collection::vec((0u64..200, 1u64..60), 0..40)
    ) {
        let text: String = lines.iter().enumerate().map(|(n, (start, size))| format!("{start:x} {size:x} f{n}\n")).collect();
        let table = parse(text.as_bytes()).unwrap();
        for address in 0..270 {
            let last = lines.iter().rposition(|(start, size)| (*start..start + size).contains(&address));
            let expected = last.map(|n| format!("f{n}"));
            prop_assert_eq!(table.lookup(address), expected.as_deref());
        }
    }
}

#[test]
fn the_file_is_found_by_the_pid_of_its_own_namespace_and_read_again_when_it_changed() {
    let proc = proc_with_process(55);
    let start = Instant::now();
    let mut maps = maps(proc.path());
    assert_eq!(one(&mut maps, 0x100, start), Err(Reason::NoSymbol));
    fs::write(map_path(proc.path()), "100 10 jit\n").unwrap();
    assert_eq!(one(&mut maps, 0x100, start), Err(Reason::NoSymbol), "at most once a second");
    let later = start + RELOAD_INTERVAL;
    assert_eq!(one(&mut maps, 0x100, later).as_deref(), Ok("jit"));
    assert_eq!(one(&mut maps, 0x200, later + RELOAD_INTERVAL), Err(Reason::NoSymbol));
    assert_eq!(maps.loads, 1, "an unchanged file is not read again");
    fs::write(map_path(proc.path()), "100 10 jit\n200 10 more\n").unwrap();
    assert_eq!(one(&mut maps, 0x200, later + 2 * RELOAD_INTERVAL).as_deref(), Ok("more"));
}

#[test]
fn names_outlive_their_process_but_not_the_reuse_of_its_pid() {
    let proc = proc_with_process(55);
    let now = Instant::now();
    let mut maps = maps(proc.path());
    fs::write(map_path(proc.path()), "100 10 jit\n").unwrap();
    assert_eq!(one(&mut maps, 0x100, now).as_deref(), Ok("jit"));
    fs::remove_file(map_path(proc.path())).unwrap();
    assert_eq!(one(&mut maps, 0x200, now + 2 * RELOAD_INTERVAL), Err(Reason::NoSymbol));
    assert_eq!(one(&mut maps, 0x100, now + 2 * RELOAD_INTERVAL).as_deref(), Ok("jit"));
    set_start(proc.path(), 56);
    assert_eq!(one(&mut maps, 0x100, now), Err(Reason::NoSymbol));
    fs::remove_dir_all(proc.path().join(PID.to_string())).unwrap();
    assert_eq!(one(&mut maps, 0x100, now), Err(Reason::NoSymbol), "its own answer stays");
    assert_eq!(maps.lookup(1, &[1], now), [Err(Reason::ProcessGone)]);
}

#[test]
fn a_fifo_in_place_of_the_file_is_refused_at_once() {
    let proc = proc_with_process(55);
    let path = CString::new(map_path(proc.path()).to_str().unwrap()).unwrap();
    // SAFETY: a NUL-terminated path.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    assert_eq!(one(&mut maps(proc.path()), 0x100, Instant::now()), Err(Reason::Unreadable));
}

#[test]
fn what_is_no_regular_file_is_never_really_opened() {
    let proc = proc_with_process(55);
    let _listener = std::os::unix::net::UnixListener::bind(map_path(proc.path())).unwrap();
    assert_eq!(File::open(map_path(proc.path())).unwrap_err().raw_os_error(), Some(libc::ENXIO));
    let refused = open_map(proc.path(), PID).unwrap_err();
    assert_eq!((refused.kind(), refused.raw_os_error()), (io::ErrorKind::InvalidInput, None));
}

#[test]
fn a_directory_that_is_a_link_cannot_lead_out_of_the_processs_root() {
    let proc = proc_with_process(55);
    let outside = proc.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("perf-7.map"), "100 10 secret\n").unwrap();
    let tmp = proc.path().join(format!("{PID}/root/tmp"));
    fs::remove_dir(&tmp).unwrap();
    for target in [outside.as_path(), Path::new("../../outside")] {
        symlink(target, &tmp).unwrap();
        assert!(tmp.join("perf-7.map").is_file() && open_map(proc.path(), PID).is_err(), "{target:?}");
        fs::remove_file(&tmp).unwrap();
    }
}

#[test]
fn a_link_cannot_lead_out_of_the_processs_root() {
    let proc = proc_with_process(55);
    let outside = proc.path().join("outside");
    fs::write(&outside, "100 10 secret\n").unwrap();
    symlink(&outside, map_path(proc.path())).unwrap();
    assert_eq!(one(&mut maps(proc.path()), 0x100, Instant::now()), Err(Reason::NoSymbol));
}

#[test]
fn a_file_beyond_the_limit_is_refused_before_it_is_read() {
    let proc = proc_with_process(55);
    File::create(map_path(proc.path())).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
    let mut maps = maps(proc.path());
    assert_eq!(one(&mut maps, 0x100, Instant::now()), Err(Reason::TooLarge));
    assert_eq!(parse(BufReader::new(io::repeat(b'x'))).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
}

#[test]
fn the_least_recently_used_process_leaves_first() {
    let proc = proc_with_process(55);
    fs::write(map_path(proc.path()), "100 10 jit\n").unwrap();
    for pid in [1, 2] {
        let other = proc.path().join(pid.to_string());
        fs::create_dir_all(other.join("root/tmp")).unwrap();
        fs::write(other.join("status"), "NSpid:\t1\n").unwrap();
        fs::copy(proc.path().join(format!("{PID}/stat")), other.join("stat")).unwrap();
    }
    let now = Instant::now();
    let mut maps = maps(proc.path());
    for pid in [PID, 1, PID, 2] {
        maps.lookup(pid, &[0x100], now);
    }
    assert_eq!((maps.processes(), maps.evictions), (2, 1));
    assert!(maps.processes.contains_key(&PID) && maps.processes.contains_key(&2));
}
