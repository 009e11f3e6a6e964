//! Executable mappings of a process, as `/proc/PID/maps` lists them (proc(5)).

use std::fs::File;
use std::io::{self, BufRead, BufReader};

/// Mappings kept for one process; the kernel allows 65,530 by default (vm.max_map_count).
pub(crate) const MAPPINGS_MAX: usize = 16_384;
/// Bytes of one maps file that are read.
const MAPS_BYTES_MAX: u64 = 64 << 20;
/// Memory that the kernel itself backs with a file of its own, by how its path begins: shared anonymous
/// memory, System V segments, huge pages. What is executable there was made at run time.
const RUNTIME_PATHS: [&str; 3] = ["/dev/zero", "/SYSV", "/anon_hugepage"];

/// What an executable mapping maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backing {
    /// A file; the path is as the process sees it, without the mark of deleted files.
    File {
        path: String,
        inode: FileKey,
    },
    Vdso,
    /// No file: code made at run time.
    Anonymous,
    /// The legacy page at a fixed address.
    Vsyscall,
}

/// A file by what the maps line says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct FileKey {
    pub major: u32,
    pub minor: u32,
    pub inode: u64,
}

/// One executable mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    pub start: u64,
    /// Exclusive.
    pub end: u64,
    /// Where in the file `start` lies, bytes.
    pub file_offset: u64,
    pub writable: bool,
    pub backing: Backing,
}

impl Backing {
    /// What a mapping with this path maps, as `/proc/PID/maps` and perf records write it: names in brackets
    /// and `//anon` are no files.
    pub(crate) fn of(path: &str, inode: FileKey) -> Self {
        match path {
            "[vdso]" => Self::Vdso,
            "[vsyscall]" => Self::Vsyscall,
            _ if inode.inode == 0 || !path.starts_with('/') || path.starts_with("//") => Self::Anonymous,
            _ if RUNTIME_PATHS.iter().any(|start| path.starts_with(start)) => Self::Anonymous,
            _ => Self::File { path: path_of(path).to_owned(), inode },
        }
    }
}

/// A file's path without what the kernel puts behind it once the file is unlinked.
pub(crate) fn path_of(shown: &str) -> &str {
    shown.strip_suffix(" (deleted)").unwrap_or(shown)
}

/// Reads the executable mappings of a process, in address order.
///
/// # Errors
/// The process is gone or not ours to look at.
pub(crate) fn read(pid: u32) -> io::Result<Vec<Mapping>> {
    parse(BufReader::new(File::open(format!("/proc/{pid}/maps"))?))
}

/// Reads a maps file; lines that make no sense are left out.
///
/// # Errors
/// When reading fails.
pub fn parse(reader: impl BufRead) -> io::Result<Vec<Mapping>> {
    let mut reader = reader.take(MAPS_BYTES_MAX);
    let mut mappings = Vec::new();
    let mut line = Vec::new();
    while mappings.len() < MAPPINGS_MAX {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        mappings.extend(parse_line(&String::from_utf8_lossy(&line)));
    }
    Ok(mappings)
}

/// `55e0c000-55e0d000 r-xp 00001000 fe:01 1234    /usr/bin/cat (deleted)`; `None` unless executable.
fn parse_line(line: &str) -> Option<Mapping> {
    let mut rest = line.trim_end_matches('\n');
    let mut field = || {
        rest = rest.trim_start_matches(' ');
        let (value, tail) = rest.split_at(rest.find(' ').unwrap_or(rest.len()));
        rest = tail;
        value
    };
    let (range, permissions, offset, device, inode) = (field(), field(), field(), field(), field());
    if permissions.as_bytes().get(2) != Some(&b'x') {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let (major, minor) = device.split_once(':')?;
    let path = rest.trim_start_matches(' ');
    let inode = FileKey {
        major: u32::from_str_radix(major, 16).ok()?,
        minor: u32::from_str_radix(minor, 16).ok()?,
        inode: inode.parse().ok()?,
    };
    let (writable, backing) = (permissions.as_bytes().get(1) == Some(&b'w'), Backing::of(path, inode));
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    let file_offset = u64::from_str_radix(offset, 16).ok()?;
    (start < end).then_some(Mapping { start, end, file_offset, writable, backing })
}

/// The mapping that holds an address; `mappings` in address order.
pub(crate) fn find<T>(mappings: &[T], address: u64, range: impl Fn(&T) -> (u64, u64)) -> Option<&T> {
    let after = mappings.partition_point(|mapping| range(mapping).0 <= address);
    let candidate = &mappings[after.checked_sub(1)?];
    (address < range(candidate).1).then_some(candidate)
}

/// The mapping of a file that holds an address of this process, for tests.
#[cfg(test)]
pub(crate) fn own(address: u64) -> (Mapping, String, FileKey) {
    let mappings = read(std::process::id()).unwrap();
    let own = find(&mappings, address, |mapping| (mapping.start, mapping.end)).unwrap().clone();
    let Backing::File { path, inode } = own.backing.clone() else { panic!("{own:?}") };
    (own, path, inode)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55e0c000-55e0d000 r--p 00000000 fe:01 1234                               /usr/bin/cat
55e0d000-55e0f000 r-xp 00001000 fe:01 1234                               /usr/bin/cat
7f0000000000-7f0000001000 rwxp 00000000 00:00 0 
7f0000002000-7f0000003000 r-xp 00003000 00:2a 99                         /tmp/with space (deleted)
7f0000004000-7f0000005000 r-xp 00000000 00:01 2053                       /memfd:jit (deleted)
7ffd1000-7ffd3000 r-xp 00000000 00:00 0                                  [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
";

    #[test]
    fn executable_mappings_are_told_apart_by_what_they_map() {
        let mappings = parse(MAPS.as_bytes()).unwrap();
        let paths: Vec<String> = mappings
            .iter()
            .map(|mapping| match &mapping.backing {
                Backing::File { path, .. } => path.clone(),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(
            paths,
            ["/usr/bin/cat", "Anonymous", "/tmp/with space", "/memfd:jit", "Vdso", "Vsyscall"]
                .map(str::to_owned)
        );
        assert_eq!(mappings[0].file_offset, 0x1000);
        assert_eq!(mappings.iter().filter(|mapping| mapping.writable).count(), 1);
        let Backing::File { inode, .. } = &mappings[2].backing else { panic!("no file") };
        assert_eq!(*inode, FileKey { major: 0, minor: 0x2a, inode: 99 });
    }

    #[test]
    fn memory_that_only_looks_like_a_file_is_code_made_at_run_time() {
        let inode = FileKey { major: 0, minor: 1, inode: 7 };
        for path in
            ["//anon", "/dev/zero (deleted)", "/SYSV00000000 (deleted)", "/anon_hugepage (deleted)", ""]
        {
            assert_eq!(Backing::of(path, inode), Backing::Anonymous, "{path:?}");
        }
        assert_eq!(Backing::of("/lib/x.so", FileKey { inode: 0, ..inode }), Backing::Anonymous);
        assert_eq!(
            Backing::of("/lib/x.so (deleted)", inode),
            Backing::File { path: "/lib/x.so".into(), inode }
        );
    }

    #[test]
    fn an_address_is_found_only_inside_a_mapping() {
        let mappings = parse(MAPS.as_bytes()).unwrap();
        let at = |address| find(&mappings, address, |mapping| (mapping.start, mapping.end)).map(|m| m.start);
        assert_eq!(at(0x55e0_d000), Some(0x55e0_d000));
        assert_eq!(at(0x55e0_efff), Some(0x55e0_d000));
        assert_eq!(at(0x55e0_f000), None);
        assert_eq!(at(0), None);
    }

    #[test]
    fn lines_that_make_no_sense_are_left_out() {
        for line in ["", "x", "1-2 r-xp", "5-4 r-xp 0 0:0 0 ", "zz-zz r-xp 00 00:00 0", "1-2 r-xp 0 00 0"] {
            assert_eq!(parse(line.as_bytes()).unwrap(), [], "{line:?}");
        }
    }

    #[test]
    fn this_process_has_its_own_code_in_its_mappings() {
        let address = this_process_has_its_own_code_in_its_mappings as *const () as u64;
        let mappings = read(std::process::id()).unwrap();
        let mapping = find(&mappings, address, |mapping| (mapping.start, mapping.end)).unwrap();
        assert!(matches!(&mapping.backing, Backing::File { path, .. } if path.contains("profiler")));
    }
}
