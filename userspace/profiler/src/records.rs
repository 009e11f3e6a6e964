//! What the kernel tells of processes and their mappings, decoded from a perf ring's bytes
//! (include/uapi/linux/perf_event.h, `enum perf_event_type`).

use crate::mapping::FileKey;

/// Bytes of a path that are kept; the kernel writes at most PATH_MAX.
const PATH_BYTES_MAX: usize = 4096;

const RECORD_LOST: u32 = 2;
const RECORD_COMM: u32 = 3;
const RECORD_EXIT: u32 = 4;
const RECORD_FORK: u32 = 7;
const RECORD_MMAP2: u32 = 10;
/// `perf_event_header.misc`: the process got its name by exec.
const MISC_COMM_EXEC: u16 = 1 << 13;
/// `perf_event_header.misc`: a build id stands in the place of device and inode.
const MISC_MMAP_BUILD_ID: u16 = 1 << 14;

/// type: u32, misc: u16, size: u16.
pub(crate) const HEADER_BYTES: usize = 8;
/// What `sample_id_all` puts behind each record with PERF_SAMPLE_TID and PERF_SAMPLE_TIME: pid: u32,
/// tid: u32, time: u64.
const SAMPLE_ID_BYTES: usize = 16;
/// A record that starts before or outside this PID namespace's sight has the pid 0; a dying one has -1.
const PIDS_OUT_OF_SIGHT: [u32; 2] = [0, u32::MAX];

/// One record. Pids are those of this process's own PID namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time_ns: u64,
    pub body: Body,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    Mapped(Mapped),
    /// The process runs another program: nothing of what it mapped is left.
    Exec {
        pid: u32,
    },
    /// A process, or with `pid` equal to `parent` a thread, was made.
    Fork {
        pid: u32,
        parent: u32,
    },
    /// A thread ended; the process's first one has the process's own id.
    Exit {
        pid: u32,
        tid: u32,
    },
    /// So many records found no room.
    Lost(u64),
}

/// An executable mapping that was made, or became executable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    pub pid: u32,
    pub start: u64,
    /// Exclusive.
    pub end: u64,
    /// Where in the file `start` lies, bytes.
    pub file_offset: u64,
    pub writable: bool,
    /// `None` when the record carries a build id instead.
    pub inode: Option<FileKey>,
    /// As the process sees it; `//anon` and names in brackets are no files.
    pub path: String,
}

/// A record that contradicts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undecodable;

/// Decodes one record, header included; `None` for one that tells nothing here.
///
/// # Errors
/// When the bytes are too few for what they say they are.
pub fn decode(bytes: &[u8]) -> Result<Option<Record>, Undecodable> {
    let kind = u32_at(bytes, 0)?;
    let misc = u16_at(bytes, 4)?;
    let body = bytes.get(HEADER_BYTES..).ok_or(Undecodable)?;
    let (body, sample_id) =
        body.split_at_checked(body.len().wrapping_sub(SAMPLE_ID_BYTES)).ok_or(Undecodable)?;
    let time_ns = u64_at(sample_id, 8)?;
    let body = match kind {
        RECORD_LOST => Some(Body::Lost(u64_at(body, 8)?)),
        RECORD_COMM if misc & MISC_COMM_EXEC != 0 => Some(Body::Exec { pid: u32_at(body, 0)? }),
        RECORD_EXIT => Some(Body::Exit { pid: u32_at(body, 0)?, tid: u32_at(body, 8)? }),
        RECORD_FORK => Some(Body::Fork { pid: u32_at(body, 0)?, parent: u32_at(body, 4)? }),
        RECORD_MMAP2 => mapped(misc, body)?.map(Body::Mapped),
        _ => None,
    };
    Ok(body.filter(|body| !is_out_of_sight(body)).map(|body| Record { time_ns, body }))
}

/// pid, tid: u32; address, length, file offset: u64; major, minor: u32; inode, generation: u64; prot, flags:
/// u32; path, padded with NULs to 8 bytes.
fn mapped(misc: u16, body: &[u8]) -> Result<Option<Mapped>, Undecodable> {
    let prot = u32_at(body, 56)?;
    if prot & libc::PROT_EXEC as u32 == 0 {
        return Ok(None);
    }
    let (start, bytes) = (u64_at(body, 8)?, u64_at(body, 16)?);
    let end = start.checked_add(bytes).ok_or(Undecodable)?;
    let inode = FileKey { major: u32_at(body, 32)?, minor: u32_at(body, 36)?, inode: u64_at(body, 40)? };
    let path = body.get(64..).ok_or(Undecodable)?;
    let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
    let path = String::from_utf8_lossy(path.get(..PATH_BYTES_MAX).unwrap_or(path)).into_owned();
    Ok((bytes > 0).then_some(Mapped {
        pid: u32_at(body, 0)?,
        start,
        end,
        file_offset: u64_at(body, 24)?,
        writable: prot & libc::PROT_WRITE as u32 != 0,
        inode: (misc & MISC_MMAP_BUILD_ID == 0).then_some(inode),
        path,
    }))
}

fn is_out_of_sight(body: &Body) -> bool {
    let pid = match body {
        Body::Mapped(Mapped { pid, .. })
        | Body::Exec { pid }
        | Body::Fork { pid, .. }
        | Body::Exit { pid, .. } => pid,
        Body::Lost(_) => return false,
    };
    PIDS_OUT_OF_SIGHT.contains(pid)
}

fn array_at<const BYTES: usize>(bytes: &[u8], at: usize) -> Result<[u8; BYTES], Undecodable> {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).copied().ok_or(Undecodable)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Undecodable> {
    array_at(bytes, at).map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Undecodable> {
    array_at(bytes, at).map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, Undecodable> {
    array_at(bytes, at).map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u32, misc: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = kind.to_ne_bytes().to_vec();
        bytes.extend(misc.to_ne_bytes());
        bytes.extend(((HEADER_BYTES + body.len() + SAMPLE_ID_BYTES) as u16).to_ne_bytes());
        bytes.extend(body);
        bytes.extend(words(&[9, 9]));
        bytes.extend(77u64.to_ne_bytes());
        bytes
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn mmap2(prot: i32, path: &[u8]) -> Vec<u8> {
        let mut body = words(&[41, 42]);
        for word in [0x1000u64, 0x2000, 0x3000] {
            body.extend(word.to_ne_bytes());
        }
        body.extend(words(&[8, 1]));
        body.extend(1234u64.to_ne_bytes());
        body.extend(5u64.to_ne_bytes());
        body.extend(words(&[prot as u32, libc::MAP_PRIVATE as u32]));
        body.extend(path);
        body
    }

    #[test]
    fn an_executable_mapping_has_its_range_file_and_path() {
        let prot = libc::PROT_READ | libc::PROT_EXEC;
        let body = mmap2(prot, b"/lib/x.so\0\0\0\0\0\0\0");
        let expected = Mapped {
            pid: 41,
            start: 0x1000,
            end: 0x3000,
            file_offset: 0x3000,
            writable: false,
            inode: Some(FileKey { major: 8, minor: 1, inode: 1234 }),
            path: "/lib/x.so".into(),
        };
        let decoded = decode(&record(RECORD_MMAP2, 2, &body));
        assert_eq!(decoded, Ok(Some(Record { time_ns: 77, body: Body::Mapped(expected.clone()) })));
        let with_build_id = decode(&record(RECORD_MMAP2, 2 | MISC_MMAP_BUILD_ID, &body)).unwrap().unwrap();
        assert_eq!(with_build_id.body, Body::Mapped(Mapped { inode: None, ..expected }));
    }

    #[test]
    fn data_mappings_and_names_given_without_exec_tell_nothing() {
        assert_eq!(decode(&record(RECORD_MMAP2, 0, &mmap2(libc::PROT_READ, b"/x\0\0\0\0\0\0"))), Ok(None));
        assert_eq!(decode(&record(RECORD_COMM, 0, &words(&[1, 1, 0, 0]))), Ok(None));
        assert_eq!(decode(&record(99, 0, &[])), Ok(None));
    }

    #[test]
    fn processes_begin_run_programs_and_end() {
        let body =
            |kind, misc, body: &[u32]| decode(&record(kind, misc, &words(body))).unwrap().unwrap().body;
        assert_eq!(body(RECORD_FORK, 0, &[5, 4, 6, 4, 0, 0]), Body::Fork { pid: 5, parent: 4 });
        assert_eq!(body(RECORD_EXIT, 0, &[5, 4, 6, 4, 0, 0]), Body::Exit { pid: 5, tid: 6 });
        assert_eq!(body(RECORD_COMM, MISC_COMM_EXEC, &[5, 5, 0, 0]), Body::Exec { pid: 5 });
        let lost: Vec<u8> = [1u64, 12].iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(decode(&record(RECORD_LOST, 0, &lost)).unwrap().unwrap().body, Body::Lost(12));
    }

    #[test]
    fn processes_out_of_sight_are_left_out() {
        assert_eq!(decode(&record(RECORD_FORK, 0, &words(&[0, 0, 0, 0, 0, 0]))), Ok(None));
        assert_eq!(decode(&record(RECORD_EXIT, 0, &words(&[u32::MAX, 1, 5, 1, 0, 0]))), Ok(None));
    }

    #[test]
    fn a_record_cut_anywhere_never_panics_nor_becomes_another_mapping() {
        let whole = record(RECORD_MMAP2, 2, &mmap2(libc::PROT_EXEC, b"/lib/x.so\0\0\0\0\0\0\0"));
        for length in 0..whole.len() - 8 {
            if let Ok(Some(record)) = decode(&whole[..length]) {
                assert!(matches!(record.body, Body::Mapped(Mapped { start: 0x1000, end: 0x3000, .. })));
            }
        }
        let mut wraps = mmap2(libc::PROT_EXEC, b"/x\0\0\0\0\0\0");
        wraps[8..16].copy_from_slice(&u64::MAX.to_ne_bytes());
        assert_eq!(decode(&record(RECORD_MMAP2, 0, &wraps)), Err(Undecodable));
    }
}
