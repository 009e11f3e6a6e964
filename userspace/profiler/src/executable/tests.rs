//! Tests of the module `executable`.

use std::io::Write;
use std::os::unix::fs::MetadataExt;

use object::elf;

use super::facts::READ_BYTES_MAX;
use super::*;
use crate::mapping;

impl Binaries {
    /// How long a file's answer is waited for.
    pub(crate) fn set_open_wait(&mut self, wait: Duration) {
        self.opener.wait = wait;
    }

    /// Takes all threads that open files away until what it gives is dropped.
    pub(crate) fn hang(&mut self) -> std::sync::mpsc::SyncSender<()> {
        let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
        let held = Arc::new(Mutex::new(held));
        let wait = std::mem::replace(&mut self.opener.wait, Duration::ZERO);
        for _ in 0..opener::THREADS_STUCK_MAX {
            let held = Arc::clone(&held);
            let given = self.opener.run(move || held.lock().is_ok_and(|held| held.recv().is_err()));
            assert_eq!(given, None);
        }
        self.opener.wait = wait;
        release
    }
}

impl Opened {
    pub(crate) fn file(self) -> Option<Arc<Binary>> {
        match self {
            Self::File(binary) => Some(binary),
            Self::Slow | Self::None => None,
        }
    }
}

fn this_program() -> File {
    File::open("/proc/self/exe").unwrap()
}

#[test]
fn the_headers_of_a_real_program_give_build_id_segments_and_sizes() {
    let facts = read_facts(&this_program());
    assert!(!facts.segments.is_empty());
    assert!(facts.symbol_bytes > 1000);
}

#[test]
fn an_elf_that_lies_has_no_facts_and_does_no_harm() {
    let whole = std::fs::read("/proc/self/exe").unwrap();
    for length in [0, 1, 4, 5, 16, 63, 64, 100] {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&whole[..length]).unwrap();
        let facts = read_facts(&file);
        assert_eq!((facts.build_id.len(), facts.debug_bytes), (0, 0), "{length} bytes");
    }
    let sparse = tempfile::tempfile().unwrap();
    (&sparse).write_all(&whole[..64]).unwrap();
    sparse.set_len(1 << 30).unwrap();
    assert_eq!(read_facts(&sparse).build_id, []);
}

/// A sparse 64-bit ELF file of `sections` section headers, the second of them of a symbol table.
fn sparse_elf(sections: u64) -> File {
    let mut bytes = [0; 3 * 64];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    bytes[40] = 64; // e_shoff
    bytes[58] = 64; // e_shentsize
    bytes[62] = 1; // e_shstrndx: any section will do
    // With 0 in e_shnum, the count is the first section's size.
    bytes[64 + 32..64 + 40].copy_from_slice(&sections.to_le_bytes());
    bytes[128 + 4] = elf::SHT_SYMTAB as u8;
    bytes[128 + 32..128 + 40].copy_from_slice(&1000u64.to_le_bytes());
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    file.set_len(64 + sections * 64).unwrap();
    file
}

#[test]
fn headers_of_a_size_that_only_a_sparse_file_can_have_are_not_read() {
    assert_eq!(read_facts(&sparse_elf(10)).symbol_bytes, 1000);
    for sections in [READ_BYTES_MAX / 64, 1 << 30] {
        assert_eq!(read_facts(&sparse_elf(sections)), Facts::default(), "{sections}");
    }
}

#[test]
fn a_file_offset_becomes_the_address_at_link_time() {
    let binary = Binary { segments: vec![(0x1000, 0x500, 0x40_1000)], ..Binary::for_test(1, 1) };
    assert_eq!(binary.link_address(0x1234), 0x40_1234);
    assert_eq!(binary.link_address(0x9999), 0x9999);
    assert_eq!(binary.extent(), (0x40_1000, 0x40_1500, 0x1000));
}

#[test]
fn a_segment_ends_with_its_last_page() {
    let binary = Binary { segments: vec![(0x1234, 0x500, 0x40_1234)], ..Binary::for_test(1, 1) };
    assert_eq!(binary.segment_end(0x1000, 0x1000), Some(0x2000));
    assert_eq!(binary.segment_end(0x2000, 0x1000), None);
}

/// This program with something behind it.
fn copy(tail: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&std::fs::read("/proc/self/exe").unwrap()).unwrap();
    file.write_all(tail).unwrap();
    file
}

fn add(binaries: &mut Binaries, file: File, path: &str) -> (Arc<Binary>, Option<File>) {
    let OpenedFile { file, id, .. } = OpenedFile::new(file).unwrap();
    binaries.add(file, id, path).unwrap()
}

#[test]
fn a_build_id_that_a_file_only_claims_does_not_make_it_another() {
    let mut binaries = Binaries::default();
    let (one, _) = add(&mut binaries, copy(b"a"), "/good");
    let (other, _) = add(&mut binaries, copy(b"b"), "/evil");
    assert_ne!((one.id, one.slot), (other.id, other.slot));
}

#[test]
fn a_copy_of_a_small_program_in_another_container_is_the_same_executable() {
    let mut small = tempfile::tempfile().unwrap();
    let mut again = tempfile::tempfile().unwrap();
    // The headers and notes are all that is looked at.
    let program = std::fs::read("/bin/true").unwrap();
    small.write_all(&program).unwrap();
    again.write_all(&program).unwrap();
    let mut binaries = Binaries::default();
    let (one, _) = add(&mut binaries, small, "/bin/true");
    if one.build_id.is_empty() {
        println!("skipped: /bin/true has no build id here");
        return;
    }
    let (other, pinned) = add(&mut binaries, again, "/bin/true");
    assert_eq!(one.id, other.id);
    assert!(pinned.is_some(), "the copy's inode must not be used again while it stands for the executable");
}

/// This process's own mapping of its program, and as it is to be opened.
fn own_source(path: &mut String) -> Source<'_> {
    let (own, found, inode) = mapping::own(own_source as *const () as u64);
    *path = found;
    Source { pid: std::process::id(), start: own.start, end: own.end, path, inode, relatives: &[] }
}

#[test]
fn an_inode_that_is_held_is_not_opened_again_also_when_its_process_is_gone() {
    let (mut binaries, mut path) = (Binaries::default(), String::new());
    let source = own_source(&mut path);
    let first = binaries.open(&source).file().unwrap();
    let dead = Source { pid: u32::MAX - 1, ..source };
    assert_eq!(binaries.open(&dead).file().unwrap().id, first.id);
    let other = FileKey { inode: source.inode.inode + 1, ..source.inode };
    assert!(binaries.open(&Source { inode: other, ..dead }).file().is_none());
    assert_eq!((binaries.len(), binaries.unreadable), (1, 1));
    assert_eq!(binaries.by_slot(first.slot).unwrap().id, first.id);
}

/// Writes a file anew in place, until the time of change says so: a file system's clock ticks with the kernel's.
pub(super) fn rewrite(path: &std::path::Path, bytes: &[u8]) {
    let changed = || std::fs::metadata(path).map(|it| (it.ctime(), it.ctime_nsec())).unwrap();
    let (before, begun) = (changed(), Instant::now());
    while changed() == before {
        assert!(begun.elapsed() < OPEN_WAIT, "the time of change stands still");
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn a_file_that_was_rewritten_in_place_is_another_executable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app");
    std::fs::copy("/proc/self/exe", &path).unwrap();
    let metadata = std::fs::metadata(&path).unwrap();
    let (major, minor) = (libc::major(metadata.dev()), libc::minor(metadata.dev()));
    let inode = FileKey { major, minor, inode: metadata.ino() };
    let text = path.to_str().unwrap();
    let source = Source { pid: std::process::id(), start: 1, end: 2, path: text, inode, relatives: &[] };
    let mut binaries = Binaries::default();
    let first = binaries.open(&source).file().unwrap();
    assert_eq!(binaries.open(&source).file().unwrap().id, first.id);
    // As a deployment that stops a program and copies another over it.
    rewrite(&path, &std::fs::read("/bin/true").unwrap());
    assert_eq!(std::fs::metadata(&path).unwrap().ino(), inode.inode);
    let second = binaries.open(&source).file().unwrap();
    assert_ne!(second.id, first.id);
    assert_eq!(second.segments, read_facts(&File::open("/bin/true").unwrap()).segments);
    assert_eq!(binaries.open(&source).file().unwrap().id, second.id);
}

#[test]
fn an_inode_number_that_is_not_a_file_s_own_is_not_enough() {
    let (mut binaries, mut path) = (Binaries::default(), String::new());
    let source = own_source(&mut path);
    let first = binaries.open(&source).file().unwrap();
    assert!(binaries.held(source.inode, source.path).is_some());
    binaries.by_key.values_mut().for_each(|held| held.is_sole = false);
    assert!(binaries.held(source.inode, source.path).is_none());
    // It is opened again, and known by what the file itself says.
    assert_eq!(binaries.open(&source).file().unwrap().id, first.id);
    assert_eq!(binaries.len(), 1);
}

#[test]
fn one_file_by_two_paths_is_one_executable() {
    let (mut binaries, mut path) = (Binaries::default(), String::new());
    let source = own_source(&mut path);
    let first = binaries.open(&source).file().unwrap();
    let again = binaries.open(&Source { path: "/by/another/path", ..source }).file();
    match again {
        Some(again) => assert_eq!(again.id, first.id),
        None => println!("skipped: map_files is closed here"),
    }
}

#[test]
fn a_file_that_no_image_maps_is_closed_after_a_while_and_its_slot_let_go() {
    let (mut binaries, mut path, now) = (Binaries::default(), String::new(), Instant::now());
    let source = own_source(&mut path);
    let binary = binaries.open(&source).file().unwrap();
    assert!(binaries.vdso().is_none_or(|vdso| vdso.slot != binary.slot));
    let used = HashSet::from_iter([binary.id]);
    assert_eq!(binaries.retain(now + UNUSED_KEPT * 2, &used), []);
    assert_eq!(binaries.retain(now + UNUSED_KEPT * 2, &HashSet::default()), []);
    assert!(binary.open_file().is_some(), "it may be run again in a moment");
    assert_eq!(binaries.retain(now + UNUSED_KEPT * 3, &HashSet::default()), [binary.slot]);
    assert!(binary.open_file().is_none() && binaries.len() == 0);
    assert_eq!(binaries.by_slot(binary.slot).unwrap().id, binary.id, "stacks on their way name it");
    let again = binaries.open(&source).file().unwrap();
    assert!(again.id != binary.id && again.slot != binary.slot);
}

/// The file of a path as this process would map it.
fn mapped_file(path: &str) -> (FileKey, String) {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).unwrap();
    let device = metadata.dev();
    let (major, minor) = (libc::major(device), libc::minor(device));
    (FileKey { major, minor, inode: metadata.ino() }, path.to_owned())
}

/// Opens a file by its path in this process's root.
fn open_by_path(binaries: &mut Binaries, (inode, path): &(FileKey, String)) -> Option<Arc<Binary>> {
    let pid = std::process::id();
    binaries.open(&Source { pid, start: 0, end: 0, path, inode: *inode, relatives: &[] }).file()
}

#[test]
fn at_the_limit_a_file_that_is_mapped_stays_open_and_one_that_is_not_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<_> = ["service", "job", "newcomer", "late"]
        .map(|name| folder.path().join(name).to_str().unwrap().to_owned())
        .into_iter()
        .inspect(|path| std::fs::write(path, path).unwrap())
        .map(|path| mapped_file(&path))
        .collect();
    let (mut binaries, now) = (Binaries::new(2), Instant::now());
    let service = open_by_path(&mut binaries, &files[0]).unwrap();
    let job = open_by_path(&mut binaries, &files[1]).unwrap();
    assert!(open_by_path(&mut binaries, &files[2]).is_none(), "both are in use as far as is known");
    assert_eq!((binaries.len(), binaries.refused, binaries.evicted), (2, 1, 0));
    assert_eq!(binaries.retain(now, &HashSet::from_iter([service.id])), []);
    let newcomer = open_by_path(&mut binaries, &files[2]).unwrap();
    assert!(service.open_file().is_some() && newcomer.open_file().is_some());
    assert!(job.open_file().is_none(), "no process maps it");
    assert!(open_by_path(&mut binaries, &files[3]).is_none());
    assert_eq!((binaries.len(), binaries.refused, binaries.evicted), (2, 2, 1));
    assert_eq!(binaries.retain(now, &HashSet::from_iter([service.id, newcomer.id])), []);
    assert_eq!(binaries.retain(now + UNUSED_KEPT, &HashSet::from_iter([service.id])), [job.slot]);
    let again = open_by_path(&mut binaries, &files[1]).unwrap();
    assert!(again.id != job.id && again.open_file().is_some(), "it is opened anew");
}

#[test]
fn a_file_that_is_mapped_again_is_not_closed_for_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("job").to_str().unwrap().to_owned();
    std::fs::write(&path, "job").unwrap();
    let (file, mut binaries) = (mapped_file(&path), Binaries::new(1));
    let job = open_by_path(&mut binaries, &file).unwrap();
    binaries.retain(Instant::now(), &HashSet::default());
    assert_eq!(binaries.held(file.0, &file.1).unwrap().id, job.id);
    assert!(open_by_path(&mut binaries, &mapped_file("/proc/self/exe")).is_none());
    assert!(job.open_file().is_some());
}

#[test]
fn executables_leave_half_of_the_open_files_to_others() {
    let binaries = Binaries::default();
    assert!(binaries.files_max <= FILES_MAX && binaries.files_max <= file_limit() / 2);
    assert!(binaries.files_max > 0);
}

#[test]
fn a_file_that_does_not_answer_is_slow_and_others_are_opened_later() {
    let mut path = String::new();
    let (source, mut binaries, begun) = (own_source(&mut path), Binaries::default(), Instant::now());
    let release = binaries.hang();
    let slow = binaries.open_slow();
    assert!(matches!(binaries.open(&source), Opened::Slow));
    assert_eq!((binaries.open_slow(), binaries.len()), (slow + 1, 0));
    drop(release);
    while binaries.open(&source).file().is_none() {
        assert!(begun.elapsed() < OPEN_WAIT, "no thread answers any more");
        std::thread::yield_now();
    }
    assert_eq!(binaries.len(), 1);
}
