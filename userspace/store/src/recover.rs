//! Reads the index of a directory at open, and puts right what a crash left.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use tracing::{info, warn};

use crate::Error;
use crate::counters::Counters;
use crate::segment::{FILE_HEADER_BYTES, FileKind, Name, Reader, Segment, Step, file_kind, parse_name};

/// Names tried for one file that is set aside.
const SET_ASIDE_NAMES_MAX: u32 = 100;
/// A range that wants no record's payload.
const NO_TIME: RangeInclusive<i64> = RangeInclusive::new(1, 0);

/// What [`recover`] found.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// By sequence, oldest first.
    pub(crate) segments: Vec<Segment>,
    /// The last segment's file, when appending may go on in it.
    pub(crate) active: Option<File>,
    pub(crate) sequence_next: u64,
}

/// Only the last segment is read in full, since only it can have been cut short; of the others the records'
/// headers are read, and their checksums when they are queried.
pub(crate) fn recover(directory: &Path, counters: &mut Counters) -> Result<Recovered, Error> {
    let mut found = list(directory)?;
    found.files.sort_unstable_by_key(|file| file.sequence);
    let mut recovered = Recovered { sequence_next: found.sequence_next, ..Default::default() };
    let last = found.files.last().map(|file| file.sequence);
    for empty in found.files {
        let path = empty.path.clone();
        match kind(&path).map_err(|source| Error::io("read", &path, source))? {
            FileKind::Readable => {}
            FileKind::Unfinished => {
                fs::remove_file(&path).map_err(|source| Error::io("remove", &path, source))?;
                continue;
            }
            FileKind::Version(version) => {
                set_aside(&path, &format!("version-{version}"), counters);
                continue;
            }
            FileKind::NotASegment => {
                set_aside(&path, "unknown", counters);
                continue;
            }
        }
        let (segment, file) = if Some(empty.sequence) == last {
            scan_last(empty, counters)?
        } else {
            (scan(empty, false, counters)?.0, None)
        };
        // The age limit would never reach a segment without records.
        if segment.records == 0 && segment.corrupt == 0 {
            fs::remove_file(&segment.path).map_err(|source| Error::io("remove", &segment.path, source))?;
            continue;
        }
        recovered.active = file;
        recovered.segments.push(segment);
    }
    Ok(recovered)
}

struct Found {
    /// Nothing is known of them yet but the name.
    files: Vec<Segment>,
    sequence_next: u64,
}

fn list(directory: &Path) -> Result<Found, Error> {
    let failed = |source| Error::io("list", directory, source);
    let mut found = Found { files: Vec::new(), sequence_next: 0 };
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let sequence = match name.to_str().map(parse_name) {
            Some(Name::Segment { first_unix_ms, sequence }) => {
                found.files.push(Segment::new(entry.path(), first_unix_ms, sequence));
                sequence
            }
            Some(Name::SetAside { sequence }) => sequence,
            _ => continue,
        };
        found.sequence_next = found.sequence_next.max(sequence.saturating_add(1));
    }
    Ok(found)
}

fn kind(path: &Path) -> io::Result<FileKind> {
    let mut start = Vec::with_capacity(FILE_HEADER_BYTES);
    File::open(path)?.take(FILE_HEADER_BYTES as u64).read_to_end(&mut start)?;
    Ok(file_kind(&start))
}

/// How the last record of a segment ends.
enum Tail {
    Whole,
    /// Cut short by a crash at this offset.
    Torn(u64),
    /// What follows cannot be understood, and is not what a crash leaves.
    Lost,
}

fn scan(mut segment: Segment, verify: bool, counters: &mut Counters) -> Result<(Segment, Tail), Error> {
    let path = segment.path.clone();
    let failed = |source| Error::io("read", &path, source);
    let file = File::open(&path).map_err(failed)?;
    let end = file.metadata().map_err(failed)?.len();
    let wanted = if verify { i64::MIN..=i64::MAX } else { NO_TIME };
    let mut reader = Reader::new(file, end, wanted).map_err(failed)?;
    let mut tail = Tail::Whole;
    let mut corrupt_last = None;
    loop {
        match reader.next().map_err(failed)? {
            Step::Record { newest_unix_ms, .. } => {
                segment.note(newest_unix_ms);
                corrupt_last = None;
            }
            Step::Corrupt { at } => {
                segment.corrupt += 1;
                corrupt_last = Some(at);
            }
            Step::Torn { at } => tail = Tail::Torn(at),
            Step::Lost { .. } => tail = Tail::Lost,
            Step::End => break,
        }
    }
    // The length reached the disk before the payload did.
    if let (Tail::Whole, Some(at)) = (&tail, corrupt_last) {
        segment.corrupt -= 1;
        tail = Tail::Torn(at);
    }
    if matches!(tail, Tail::Lost) || (!verify && matches!(tail, Tail::Torn(_))) {
        segment.corrupt += 1;
    }
    counters.corrupt_records += segment.corrupt;
    segment.bytes = end;
    Ok((segment, tail))
}

fn scan_last(empty: Segment, counters: &mut Counters) -> Result<(Segment, Option<File>), Error> {
    let (mut segment, tail) = scan(empty, true, counters)?;
    let path = segment.path.clone();
    let at = match tail {
        Tail::Lost => {
            warn!(path = %path.display(), "the last segment ends in bytes that are no record; a new one follows");
            return Ok((segment, None));
        }
        Tail::Whole => None,
        Tail::Torn(at) => Some(at),
    };
    let file =
        OpenOptions::new().write(true).open(&path).map_err(|source| Error::io("open", &path, source))?;
    if let Some(at) = at {
        info!(path = %path.display(), cut_bytes = segment.bytes - at, "cut a record that a crash left unfinished");
        file.set_len(at).map_err(|source| Error::io("cut", &path, source))?;
        segment.bytes = at;
        counters.torn_tails += 1;
    }
    Ok((segment, Some(file)))
}

fn set_aside(path: &Path, why: &str, counters: &mut Counters) {
    counters.set_aside_segments += 1;
    let mut target = PathBuf::new();
    for attempt in 0..SET_ASIDE_NAMES_MAX {
        let mut name = path.as_os_str().to_owned();
        name.push(if attempt == 0 { format!(".{why}") } else { format!(".{why}.{attempt}") });
        target = PathBuf::from(name);
        if !target.exists() {
            break;
        }
    }
    let hint = "kept but not read; remove it, or run the version that wrote it";
    if target.exists() {
        warn!(path = %path.display(), why, "cannot read a segment and found no free name for it: {hint}");
    } else if let Err(error) = fs::rename(path, &target) {
        warn!(path = %path.display(), why, %error, "cannot read a segment, nor rename it: {hint}");
    } else {
        warn!(path = %target.display(), why, "cannot read a segment: {hint}");
    }
}
