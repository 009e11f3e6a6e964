//! Whether two files are one: the same inode, unchanged, or the same bytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

/// Files with one build id are compared up to this size.
const COMPARED_BYTES_MAX: u64 = 16 << 20;
const COMPARED_STEP_BYTES: usize = 64 << 10;
/// Of each file, in all comparisons: their caller waits.
const COMPARED_BYTES_PER_SECOND_MAX: u64 = 64 << 20;

/// A file as stat shows it. While the file is held open its inode is not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl FileId {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }

    /// A file with what it is known by.
    pub(super) fn with(file: File) -> io::Result<(File, Self)> {
        Self::of(&file).map(|file_id| (file, file_id))
    }
}

/// What is compared, within limits. Files that are not compared count as different, which only costs memory.
#[derive(Debug, Default)]
pub(super) struct Comparing {
    second_began: Option<Instant>,
    bytes_in_second: u64,
}

/// One comparison, let in.
#[derive(Debug)]
pub(super) struct Comparison {
    /// From its own beginning.
    time_max: Duration,
}

impl Comparing {
    /// Lets a file be compared with another; `None` when that were too much, now or ever.
    pub(super) fn begin(&mut self, now: Instant, file: FileId, time_max: Duration) -> Option<Comparison> {
        let is_past = |began: Instant| now.duration_since(began) >= Duration::from_secs(1);
        if self.second_began.is_none_or(is_past) {
            (self.second_began, self.bytes_in_second) = (Some(now), 0);
        }
        let bytes = self.bytes_in_second.saturating_add(file.bytes);
        if file.bytes > COMPARED_BYTES_MAX || bytes > COMPARED_BYTES_PER_SECOND_MAX {
            return None;
        }
        self.bytes_in_second = bytes;
        Some(Comparison { time_max })
    }
}

impl Comparison {
    /// Whether two files hold the same bytes; `None` when it takes too long to say.
    pub(super) fn is_same(&self, one: &File, other: &File) -> Option<bool> {
        let bytes = |file: &File| file.metadata().map(|metadata| metadata.len()).unwrap_or(u64::MAX);
        // A file may have grown since it was let in.
        if bytes(one) != bytes(other) || bytes(one) > COMPARED_BYTES_MAX {
            return Some(false);
        }
        let begun = Instant::now();
        let (mut left, mut right) = (vec![0; COMPARED_STEP_BYTES], vec![0; COMPARED_STEP_BYTES]);
        let mut offset = 0;
        while begun.elapsed() < self.time_max {
            let (Ok(got), Ok(also)) = (one.read_at(&mut left, offset), other.read_at(&mut right, offset))
            else {
                return Some(false);
            };
            if left[..got] != right[..also] {
                return Some(false);
            }
            if got == 0 {
                return Some(true);
            }
            offset += got as u64;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// More than any comparison here needs.
    const PLENTY: Duration = Duration::from_secs(60);

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn is_same(one: &[u8], other: &[u8], time_max: Duration) -> Option<bool> {
        Comparison { time_max }.is_same(&file(one), &file(other))
    }

    #[test]
    fn files_are_one_when_every_byte_is() {
        assert_eq!(is_same(b"same", b"same", PLENTY), Some(true));
        assert_eq!(is_same(b"same", b"sane", PLENTY), Some(false));
        assert_eq!(is_same(b"same", b"same and more", PLENTY), Some(false));
    }

    #[test]
    fn files_that_take_too_long_to_compare_are_not_said_to_be_one() {
        assert_eq!(is_same(b"same", b"same", Duration::ZERO), None);
    }

    #[test]
    fn only_so_much_is_compared_within_a_second() {
        let sized = |bytes| FileId { device: 1, inode: 1, bytes, modified: (0, 0) };
        let (mut comparing, now) = (Comparing::default(), Instant::now());
        let mut begin = |now, bytes| comparing.begin(now, sized(bytes), PLENTY).is_some();
        assert!(!begin(now, COMPARED_BYTES_MAX + 1));
        for _ in 0..COMPARED_BYTES_PER_SECOND_MAX / COMPARED_BYTES_MAX {
            assert!(begin(now, COMPARED_BYTES_MAX));
        }
        assert!(!begin(now + Duration::from_millis(999), 1));
        assert!(begin(now + Duration::from_secs(1), COMPARED_BYTES_MAX));
    }

    #[test]
    fn a_file_that_is_written_to_is_not_what_it_was() {
        let mut file = file(b"before");
        let before = FileId::of(&file).unwrap();
        assert_eq!(FileId::of(&file.try_clone().unwrap()).unwrap(), before);
        file.write_all(b" and after").unwrap();
        assert_ne!(FileId::of(&file).unwrap(), before);
    }
}
