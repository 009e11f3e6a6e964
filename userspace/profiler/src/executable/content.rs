//! Whether two files are one: the same inode, unchanged, or the same bytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

/// Files with one build id are compared up to this size.
const COMPARED_BYTES_MAX: u64 = 16 << 20;
const COMPARED_STEP_BYTES: usize = 64 << 10;

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
}

/// Whether two files hold the same bytes; large ones count as different, which only costs a second look.
pub(super) fn same_content(one: &File, other: &File) -> bool {
    let bytes = |file: &File| file.metadata().map(|metadata| metadata.len()).unwrap_or(u64::MAX);
    if bytes(one) != bytes(other) || bytes(one) > COMPARED_BYTES_MAX {
        return false;
    }
    let (mut left, mut right) = (vec![0; COMPARED_STEP_BYTES], vec![0; COMPARED_STEP_BYTES]);
    let mut offset = 0;
    loop {
        let (Ok(got), Ok(also)) = (one.read_at(&mut left, offset), other.read_at(&mut right, offset)) else {
            return false;
        };
        if left[..got] != right[..also] {
            return false;
        }
        if got == 0 {
            return true;
        }
        offset += got as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn files_are_one_when_every_byte_is() {
        assert!(same_content(&file(b"same"), &file(b"same")));
        assert!(!same_content(&file(b"same"), &file(b"sane")));
        assert!(!same_content(&file(b"same"), &file(b"same and more")));
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
