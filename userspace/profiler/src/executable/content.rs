//! Whether two files are one: the same inode, unchanged, or the same bytes.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

use super::open::is_btrfs;

/// Files with one build id are compared up to this size.
const COMPARED_BYTES_MAX: u64 = 16 << 20;
const COMPARED_STEP_BYTES: usize = 64 << 10;
/// Of each file, in all comparisons: their caller waits.
const COMPARED_BYTES_PER_SECOND_MAX: u64 = 64 << 20;

/// A file as stat shows it. While the file is held open its inode is not used again. A file that is written to gets
/// another time of change, whatever time of modification it is given then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A file that was opened, and what it is known by.
#[derive(Debug)]
pub(super) struct OpenedFile {
    pub(super) file: File,
    pub(super) id: FileId,
    pub(super) links: u64,
    /// Whether the device and inode of its mappings are its own: subvolumes of btrfs number their inodes each for
    /// itself, and a mapping has the whole file system's device.
    pub(super) is_sole: bool,
}

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl OpenedFile {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let is_sole = !is_btrfs(&file);
        Ok(Self { file, id: FileId::of(&metadata), links: metadata.nlink(), is_sole })
    }
}

/// Whether a file may hold other bytes than when it was opened. A link that is made or goes changes the time of change
/// alone, and is noted. The file system is not asked: it may not answer.
pub(super) fn is_rewritten(file: &File, id: &mut FileId, links: &mut u64) -> bool {
    let mut now = std::mem::MaybeUninit::<libc::statx>::uninit();
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    let wanted = libc::STATX_BASIC_STATS;
    // SAFETY: an open descriptor, an empty path, and room for the answer.
    let got = unsafe { libc::statx(file.as_raw_fd(), c"".as_ptr(), flags, wanted, now.as_mut_ptr()) };
    if got != 0 {
        return false;
    }
    // SAFETY: the kernel filled it.
    let now = unsafe { now.assume_init() };
    let time = |time: libc::statx_timestamp| (time.tv_sec, i64::from(time.tv_nsec));
    let is_linked = u64::from(now.stx_nlink) != std::mem::replace(links, now.stx_nlink.into());
    let is_changed = time(now.stx_ctime) != std::mem::replace(&mut id.changed, time(now.stx_ctime));
    now.stx_size != id.bytes || time(now.stx_mtime) != id.modified || (is_changed && !is_linked)
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
    use crate::executable::tests::rewrite;

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
        let sized = |bytes| FileId { device: 1, inode: 1, bytes, modified: (0, 0), changed: (0, 0) };
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
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app");
        std::fs::write(&path, b"before").unwrap();
        let OpenedFile { file, mut id, mut links, .. } = OpenedFile::new(File::open(&path).unwrap()).unwrap();
        let before = id;
        let mut is_rewritten = || is_rewritten(&file, &mut id, &mut links);
        assert!(!is_rewritten());
        std::fs::hard_link(&path, folder.path().join("link")).unwrap();
        assert!(!is_rewritten(), "a link changes no byte");
        std::fs::remove_file(folder.path().join("link")).unwrap();
        assert!(!is_rewritten(), "nor does one that goes");
        // The same length, and the same time of modification, as of reproducible packages.
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        rewrite(&path, b"after!");
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        assert!(is_rewritten());
        let after = OpenedFile::new(File::open(&path).unwrap()).unwrap();
        assert_ne!(after.id, before);
    }
}
