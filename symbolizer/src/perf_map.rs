//! Names of code that a JIT compiler made, from the map file it writes for `perf`.
//!
//! `/tmp/perf-PID.map` in the process's own mount and PID namespaces, lines `START SIZE NAME` with hex numbers
//! without prefix: <https://github.com/torvalds/linux/blob/master/tools/perf/Documentation/jit-interface.txt>.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::query::Reason;

/// A larger file is not read at all.
const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Further lines of a file are left out.
const ENTRIES_MAX: usize = 500_000;
const NAME_BYTES_MAX: usize = 1024;
/// A changed file is read again when an address is unknown, not more often than this for a process.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    start: u64,
    end: u64,
    name_start: u32,
    name_bytes: u16,
}

/// One reading of a map file: pieces that do not overlap, sorted by address.
#[derive(Debug, Default)]
pub struct Table {
    pieces: Box<[Piece]>,
    names: Box<str>,
    /// Lines beyond the limit were left out.
    cut: bool,
}

impl Table {
    pub fn lookup(&self, address: u64) -> Option<&str> {
        let after = self.pieces.partition_point(|piece| piece.start <= address);
        let piece = self.pieces.get(after.checked_sub(1)?).filter(|piece| address < piece.end)?;
        let start = piece.name_start as usize;
        self.names.get(start..start + usize::from(piece.name_bytes))
    }

    /// Bytes of memory that the table takes.
    pub fn bytes(&self) -> u64 {
        (self.pieces.len() * size_of::<Piece>() + self.names.len()) as u64
    }
}

/// Reads a map file. A later line wins where it overlaps an earlier one: the compiler used the memory again.
/// Lines that make no sense are left out, and so is a last line without its end, which is still being written.
///
/// # Errors
/// What the reader says, and `FileTooLarge` beyond 32 MiB.
pub fn parse(reader: impl BufRead) -> io::Result<Table> {
    let mut reader = io::Read::take(reader, FILE_BYTES_MAX + 1);
    let mut entries = Vec::new();
    let mut names = String::new();
    let mut line = Vec::new();
    while entries.len() < ENTRIES_MAX {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 || line.pop() != Some(b'\n') {
            break;
        }
        let Some((start, end, name)) = std::str::from_utf8(&line).ok().and_then(parse_line) else { continue };
        // Both fit: the file is at most 32 MiB, the name at most 1 KiB.
        let (Ok(name_start), Ok(name_bytes)) = (u32::try_from(names.len()), u16::try_from(name.len())) else {
            continue;
        };
        names.push_str(name);
        entries.push(Piece { start, end, name_start, name_bytes });
    }
    if reader.limit() == 0 {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    let pieces = without_overlaps(&entries).into_boxed_slice();
    Ok(Table { pieces, names: names.into_boxed_str(), cut: entries.len() == ENTRIES_MAX })
}

fn parse_line(line: &str) -> Option<(u64, u64, &str)> {
    let (start, rest) = line.trim_start().split_once(' ')?;
    let (size, name) = rest.trim_start().split_once(' ')?;
    let hex = |digits: &str| u64::from_str_radix(digits.trim_start_matches("0x"), 16).ok();
    let (start, size) = (hex(start)?, hex(size)?);
    let name = name.trim();
    let name = &name[..name.floor_char_boundary(NAME_BYTES_MAX)];
    let end = start.checked_add(size)?;
    (size > 0 && !name.is_empty()).then_some((start, end, name))
}

/// Sweeps the addresses upward; of the entries that cover a stretch the last in the file gets it.
fn without_overlaps(entries: &[Piece]) -> Vec<Piece> {
    let mut by_start: Vec<usize> = (0..entries.len()).collect();
    by_start.sort_by_key(|&index| entries[index].start);
    let mut waiting = by_start.into_iter().peekable();
    let mut covering = BinaryHeap::<usize>::new();
    let mut pieces: Vec<Piece> = Vec::with_capacity(entries.len());
    let mut at = 0;
    loop {
        while covering.peek().is_some_and(|&index| entries[index].end <= at) {
            covering.pop();
        }
        let next_start = waiting.peek().map(|&index| entries[index].start);
        if let Some(&top) = covering.peek() {
            let end = next_start.map_or(entries[top].end, |start| start.min(entries[top].end));
            if end > at {
                push_piece(&mut pieces, Piece { start: at, end, ..entries[top] });
                at = end;
                continue;
            }
        }
        let Some(start) = next_start else { return pieces };
        at = start;
        while let Some(index) = waiting.next_if(|&index| entries[index].start == at) {
            covering.push(index);
        }
    }
}

/// Joins what only the sweep divided.
fn push_piece(pieces: &mut Vec<Piece>, piece: Piece) {
    match pieces.last_mut() {
        Some(last) if last.end == piece.start && last.name_start == piece.name_start => last.end = piece.end,
        _ => pieces.push(piece),
    }
}

/// The version of a file: a changed one differs.
type Version = (u64, u64, u64, i64, i64);

#[derive(Debug)]
struct Process {
    /// Tells a reused pid from its predecessor, in clock ticks since boot.
    start_ticks: u64,
    version: Option<Version>,
    table: Result<Table, Reason>,
    read_at: Instant,
    used: u64,
}

/// The maps of the processes used last.
#[derive(Debug)]
pub(crate) struct PerfMaps {
    proc: PathBuf,
    processes_max: usize,
    bytes_max: u64,
    processes: HashMap<u32, Process>,
    clock: u64,
    pub(crate) loads: u64,
    pub(crate) evictions: u64,
    pub(crate) cut: u64,
}

impl PerfMaps {
    pub(crate) fn new(proc: PathBuf, processes_max: usize, bytes_max: u64) -> Self {
        let processes = HashMap::new();
        Self {
            proc,
            processes_max: processes_max.max(1),
            bytes_max,
            processes,
            clock: 0,
            loads: 0,
            evictions: 0,
            cut: 0,
        }
    }

    pub(crate) fn processes(&self) -> usize {
        self.processes.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.processes.values().filter_map(|process| process.table.as_ref().ok()).map(Table::bytes).sum()
    }

    /// Names of `addresses` of one process, in their order. A process that is gone keeps the names that were
    /// read while it ran.
    pub(crate) fn lookup(
        &mut self,
        pid: u32,
        addresses: &[u64],
        now: Instant,
    ) -> Vec<Result<Arc<str>, Reason>> {
        let start_ticks = start_ticks(&self.proc, pid);
        self.processes.retain(|&known, process| {
            known != pid || start_ticks.is_none_or(|ticks| ticks == process.start_ticks)
        });
        self.clock += 1;
        if !self.processes.contains_key(&pid) {
            let Some(start_ticks) = start_ticks else {
                return addresses.iter().map(|_| Err(Reason::ProcessGone)).collect();
            };
            let (version, table) = self.read(pid, None);
            let table = table.unwrap_or(Err(Reason::NoSymbol));
            let process = Process { start_ticks, version, table, read_at: now, used: self.clock };
            self.processes.insert(pid, process);
        } else if start_ticks.is_some() {
            self.refresh(pid, addresses, now);
        }
        let names = self.processes.get_mut(&pid).map_or_else(Vec::new, |process| {
            process.used = self.clock;
            let table = process.table.as_ref().map_err(|reason| *reason);
            let name = |address| table?.lookup(address).map(Arc::from).ok_or(Reason::NoSymbol);
            addresses.iter().map(|&address| name(address)).collect()
        });
        self.make_room();
        names
    }

    fn refresh(&mut self, pid: u32, addresses: &[u64], now: Instant) {
        let Some(process) = self.processes.get(&pid) else { return };
        let known =
            |address: &u64| process.table.as_ref().is_ok_and(|table| table.lookup(*address).is_some());
        if now.saturating_duration_since(process.read_at) < RELOAD_INTERVAL || addresses.iter().all(known) {
            return;
        }
        let (version, table) = self.read(pid, process.version);
        if let Some(process) = self.processes.get_mut(&pid) {
            process.read_at = now;
            if let Some(table) = table {
                (process.version, process.table) = (version, table);
            }
        }
    }

    /// The file's version and, when it is not `seen`, its contents.
    fn read(&mut self, pid: u32, seen: Option<Version>) -> (Option<Version>, Option<Result<Table, Reason>>) {
        let file = match open_map(&self.proc, pid) {
            Ok(file) => file,
            // The file may be gone before its process is; what was read of it stays true.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return (seen, seen.is_none().then_some(Err(Reason::NoSymbol)));
            }
            Err(_) => return (None, Some(Err(Reason::Unreadable))),
        };
        let Ok(metadata) = file.metadata() else { return (None, Some(Err(Reason::Unreadable))) };
        let version =
            (metadata.dev(), metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec());
        if seen == Some(version) {
            return (seen, None);
        }
        self.loads += 1;
        let table = match metadata.size() {
            0..=FILE_BYTES_MAX => {
                parse(BufReader::with_capacity(64 * 1024, file)).map_err(|error| match error.kind() {
                    io::ErrorKind::FileTooLarge => Reason::TooLarge,
                    _ => Reason::Unreadable,
                })
            }
            _ => Err(Reason::TooLarge),
        };
        self.cut += u64::from(table.as_ref().is_ok_and(|table| table.cut));
        (Some(version), Some(table))
    }

    fn make_room(&mut self) {
        let mut bytes = self.bytes();
        let mut by_use: BinaryHeap<_> =
            self.processes.iter().map(|(&pid, process)| Reverse((process.used, pid))).collect();
        while self.processes.len() > self.processes_max || bytes > self.bytes_max {
            let Some(Reverse((_, pid))) = by_use.pop() else { return };
            if let Some(process) = self.processes.remove(&pid) {
                bytes -= process.table.as_ref().map_or(0, Table::bytes);
                self.evictions += 1;
            }
        }
    }
}

/// Field 22 of `/proc/PID/stat`; the name before it may hold spaces and parentheses.
fn start_ticks(proc: &Path, pid: u32) -> Option<u64> {
    let stat = fs::read(proc.join(pid.to_string()).join("stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Last value of `NSpid` in `/proc/PID/status`: the pid that the process knows itself by.
fn namespace_pid(proc: &Path, pid: u32) -> io::Result<u32> {
    let status = fs::read_to_string(proc.join(pid.to_string()).join("status"))?;
    let own = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    Ok(own.and_then(|pids| pids.split_ascii_whitespace().next_back()?.parse().ok()).unwrap_or(pid))
}

/// Opens the map inside the process's root. Links in the container's own files lead to files of the container
/// only, and what is no regular file is only looked at: opening a device or a fifo may have effects.
///
/// # Errors
/// What the kernel says, and `InvalidInput` for what is no regular file.
fn open_map(proc: &Path, pid: u32) -> io::Result<File> {
    let root = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(proc.join(pid.to_string()).join("root"))?;
    let path = CString::new(format!("tmp/perf-{}.map", namespace_pid(proc, pid)?))?;
    // SAFETY: all zeros is a valid open_how.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: a directory descriptor that lives through the call, a NUL-terminated path and an open_how with
    // its own size.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            root.as_raw_fd(),
            path.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    };
    let place = match i32::try_from(fd) {
        // SAFETY: a new descriptor that nobody else owns.
        Ok(fd) if fd >= 0 => unsafe { File::from_raw_fd(fd) },
        _ => return Err(io::Error::last_os_error()),
    };
    if !place.metadata()?.is_file() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    File::open(format!("/proc/self/fd/{}", place.as_raw_fd()))
}

#[cfg(test)]
mod tests;
