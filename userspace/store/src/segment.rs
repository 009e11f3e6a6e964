//! One segment file: its name, its bytes and how they are read. FORMAT.md is the description.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use bytes::Bytes;

/// Version that is written, and the only one that is read.
pub(crate) const VERSION: u32 = 1;
/// What a segment file begins with.
pub(crate) const FILE_HEADER: [u8; FILE_HEADER_BYTES] = file_header();
pub(crate) const FILE_HEADER_BYTES: usize = 16;
pub(crate) const RECORD_HEADER_BYTES: usize = 16;
/// Payload of one record. More is refused by append and implausible when read.
pub(crate) const RECORD_BYTES_MAX: u64 = 16 << 20;

const MAGIC: [u8; 8] = *b"KOVARSEG";
const EXTENSION: &str = ".seg";

/// What is kept in memory of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    /// Orders segments by creation, whatever the clock said.
    pub(crate) sequence: u64,
    /// Valid bytes of the file, its header included.
    pub(crate) bytes: u64,
    pub(crate) records: u64,
    /// Lowest `newest_unix_ms` of its records.
    pub(crate) oldest_unix_ms: i64,
    /// Highest `newest_unix_ms` of its records.
    pub(crate) newest_unix_ms: i64,
    /// Records found unreadable so far, so that each is counted once.
    pub(crate) corrupt: u64,
}

impl Segment {
    /// `first_unix_ms` is that of the first record, as the file name has it.
    pub(crate) fn new(path: PathBuf, first_unix_ms: i64, sequence: u64) -> Self {
        Self {
            path,
            sequence,
            bytes: FILE_HEADER_BYTES as u64,
            records: 0,
            oldest_unix_ms: first_unix_ms,
            newest_unix_ms: first_unix_ms,
            corrupt: 0,
        }
    }

    pub(crate) fn note(&mut self, newest_unix_ms: i64) {
        self.records += 1;
        self.oldest_unix_ms = self.oldest_unix_ms.min(newest_unix_ms);
        self.newest_unix_ms = self.newest_unix_ms.max(newest_unix_ms);
    }

    pub(crate) fn overlaps(&self, from_unix_ms: i64, to_unix_ms: i64) -> bool {
        self.oldest_unix_ms <= to_unix_ms && self.newest_unix_ms >= from_unix_ms
    }
}

/// What a file name in the directory says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Segment {
        first_unix_ms: i64,
        sequence: u64,
    },
    /// Renamed earlier because it could not be read; its sequence must not be used again.
    SetAside {
        sequence: u64,
    },
    Foreign,
}

pub(crate) fn file_name(first_unix_ms: i64, sequence: u64) -> String {
    format!("{:016}-{sequence:010}{EXTENSION}", first_unix_ms.max(0))
}

pub(crate) fn parse_name(name: &str) -> Name {
    let Some((stem, rest)) = name.split_once(EXTENSION) else { return Name::Foreign };
    let Some((first, sequence)) = stem.split_once('-') else { return Name::Foreign };
    match (first.parse(), sequence.parse()) {
        (Ok(first_unix_ms), Ok(sequence)) if rest.is_empty() => Name::Segment { first_unix_ms, sequence },
        (Ok(_), Ok(sequence)) if rest.starts_with('.') => Name::SetAside { sequence },
        _ => Name::Foreign,
    }
}

/// What the first bytes of a file say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Readable,
    /// A header that was being written when the process died: no record can follow it.
    Unfinished,
    Version(u32),
    NotASegment,
}

/// `start` is the beginning of the file, up to [`FILE_HEADER_BYTES`].
pub(crate) fn file_kind(start: &[u8]) -> FileKind {
    if start == FILE_HEADER {
        return FileKind::Readable;
    }
    if FILE_HEADER.starts_with(start) {
        return FileKind::Unfinished;
    }
    match start.strip_prefix(&MAGIC).and_then(|rest| rest.first_chunk::<4>()) {
        Some(version) if u32::from_le_bytes(*version) != VERSION => {
            FileKind::Version(u32::from_le_bytes(*version))
        }
        _ => FileKind::NotASegment,
    }
}

const fn file_header() -> [u8; FILE_HEADER_BYTES] {
    let mut header = [0; FILE_HEADER_BYTES];
    let mut at = 0;
    while at < MAGIC.len() {
        header[at] = MAGIC[at];
        at += 1;
    }
    let version = VERSION.to_le_bytes();
    while at < MAGIC.len() + version.len() {
        header[at] = version[at - MAGIC.len()];
        at += 1;
    }
    header
}

/// The header that goes before `payload`, which is at most [`RECORD_BYTES_MAX`] long.
pub(crate) fn record_header(newest_unix_ms: i64, payload: &[u8]) -> [u8; RECORD_HEADER_BYTES] {
    let length = (payload.len() as u32).to_le_bytes();
    let newest = newest_unix_ms.to_le_bytes();
    let mut header = [0; RECORD_HEADER_BYTES];
    header[0..4].copy_from_slice(&length);
    header[4..8].copy_from_slice(&checksum(&length, &newest, payload).to_le_bytes());
    header[8..16].copy_from_slice(&newest);
    header
}

fn checksum(length: &[u8], newest: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(length);
    hasher.update(newest);
    hasher.update(payload);
    hasher.finalize()
}

/// What a [`Reader`] met.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// `payload` is `None`, and the checksum not looked at, when the record's time is not wanted.
    Record {
        newest_unix_ms: i64,
        payload: Option<Bytes>,
    },
    /// The checksum is wrong; reading goes on after it.
    Corrupt {
        at: u64,
    },
    /// The file ends before the record does. Nothing follows.
    Torn {
        at: u64,
    },
    /// The length cannot be right, so what follows cannot be found.
    Lost {
        at: u64,
    },
    End,
}

/// Reads a segment one record at a time.
#[derive(Debug)]
pub(crate) struct Reader {
    file: File,
    at: u64,
    end: u64,
    wanted_unix_ms: RangeInclusive<i64>,
}

impl Reader {
    /// Reads the records between the file header and `end`, those of the wanted time with their payload.
    pub(crate) fn new(mut file: File, end: u64, wanted_unix_ms: RangeInclusive<i64>) -> io::Result<Self> {
        let at = FILE_HEADER_BYTES as u64;
        file.seek(SeekFrom::Start(at))?;
        Ok(Self { file, at, end, wanted_unix_ms })
    }

    pub(crate) fn next(&mut self) -> io::Result<Step> {
        let at = self.at;
        let left = self.end.saturating_sub(at);
        if left == 0 {
            return Ok(Step::End);
        }
        let Some(payload_left) = left.checked_sub(RECORD_HEADER_BYTES as u64) else {
            self.at = self.end;
            return Ok(Step::Torn { at });
        };
        let mut header = [0u8; RECORD_HEADER_BYTES];
        self.file.read_exact(&mut header)?;
        let (length, checksum_stored, newest) = split_header(&header);
        if length == 0 || u64::from(length) > RECORD_BYTES_MAX {
            self.at = self.end;
            return Ok(Step::Lost { at });
        }
        if u64::from(length) > payload_left {
            self.at = self.end;
            return Ok(Step::Torn { at });
        }
        self.at += RECORD_HEADER_BYTES as u64 + u64::from(length);
        let newest_unix_ms = i64::from_le_bytes(newest);
        if !self.wanted_unix_ms.contains(&newest_unix_ms) {
            self.file.seek(SeekFrom::Start(self.at))?;
            return Ok(Step::Record { newest_unix_ms, payload: None });
        }
        let mut payload = vec![0u8; length as usize];
        self.file.read_exact(&mut payload)?;
        if checksum(&length.to_le_bytes(), &newest, &payload) != checksum_stored {
            return Ok(Step::Corrupt { at });
        }
        Ok(Step::Record { newest_unix_ms, payload: Some(Bytes::from(payload)) })
    }
}

fn split_header(header: &[u8; RECORD_HEADER_BYTES]) -> (u32, u32, [u8; 8]) {
    let [l0, l1, l2, l3, c0, c1, c2, c3, newest @ ..] = *header;
    (u32::from_le_bytes([l0, l1, l2, l3]), u32::from_le_bytes([c0, c1, c2, c3]), newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_foreign_files_are_left_alone() {
        for (first_unix_ms, sequence) in [(0, 0), (1_700_000_000_000, 7), (i64::MAX, u64::MAX)] {
            let name = file_name(first_unix_ms, sequence);
            assert_eq!(parse_name(&name), Name::Segment { first_unix_ms, sequence }, "{name}");
        }
        let name = file_name(i64::MIN, 1);
        assert_eq!(parse_name(&name), Name::Segment { first_unix_ms: 0, sequence: 1 }, "{name}");
        let set_aside = format!("{}.version-2", file_name(1, 9));
        assert_eq!(parse_name(&set_aside), Name::SetAside { sequence: 9 });
        for foreign in ["lock", "notes.seg", "a-1.seg", "1-b.seg", "-1.seg", "1-.seg", "1-2.segment", ""] {
            assert_eq!(parse_name(foreign), Name::Foreign, "{foreign}");
        }
    }

    #[test]
    fn the_file_header_tells_unfinished_unknown_and_foreign_apart() {
        assert_eq!(file_kind(&FILE_HEADER), FileKind::Readable);
        for len in 0..FILE_HEADER_BYTES {
            assert_eq!(file_kind(&FILE_HEADER[..len]), FileKind::Unfinished, "{len}");
        }
        let mut newer = FILE_HEADER;
        newer[8] = 2;
        assert_eq!(file_kind(&newer), FileKind::Version(2));
        assert_eq!(file_kind(&newer[..12]), FileKind::Version(2));
        assert_eq!(file_kind(b"something else!!"), FileKind::NotASegment);
    }
}
