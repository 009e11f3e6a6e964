//! The memory of one chunk of pages, as this process sees it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use abi::{CHUNK_PAGES, PAGE_BYTES, Page};

/// Bytes of a chunk.
pub(crate) const CHUNK_BYTES: usize = CHUNK_PAGES as usize * PAGE_BYTES;

/// [`CHUNK_PAGES`] pages that only this process writes; kernel programs read them. Unmapped on drop.
#[derive(Debug)]
pub(crate) struct Chunk {
    pages: NonNull<Page>,
}

// SAFETY: the mapping belongs to the chunk alone, and any thread may read, write and unmap it.
unsafe impl Send for Chunk {}
// SAFETY: through a shared chunk pages are only read.
unsafe impl Sync for Chunk {}

impl Chunk {
    /// Maps a BPF array of [`CHUNK_PAGES`] values of a page each, made with `BPF_F_MMAPABLE`
    /// (Linux 5.5, kernel/bpf/arraymap.c: the values lie one behind the other from a page boundary on).
    ///
    /// # Errors
    /// Of mmap: the array is smaller, or was made without the flag.
    pub(crate) fn map(array: BorrowedFd<'_>) -> io::Result<Self> {
        Self::mmap(libc::MAP_SHARED, array.as_raw_fd())
    }

    /// Memory that no kernel program sees.
    #[cfg(test)]
    pub(crate) fn heap() -> Self {
        Self::mmap(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1).expect("1 MiB of memory")
    }

    /// A page of the chunk; `None` from [`CHUNK_PAGES`] on.
    pub(crate) fn page(&self, index: u32) -> Option<&Page> {
        // SAFETY: mapped as long as the chunk lives, page-aligned; a write needs the chunk exclusively.
        (index < CHUNK_PAGES).then(|| unsafe { self.pages.add(index as usize).as_ref() })
    }

    /// Overwrites a page; whether there is one with this index. What kernel programs see of a page that they
    /// read at this moment is any mixture of words, so it must be out of their reach.
    pub(crate) fn write(&mut self, index: u32, words: &Page) -> bool {
        if index >= CHUNK_PAGES {
            return false;
        }
        // SAFETY: as in `page`, and no reference to a page of this chunk lives.
        unsafe { self.pages.add(index as usize).write(*words) };
        true
    }

    fn mmap(flags: i32, fd: i32) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), CHUNK_BYTES, protection, flags, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let pages = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { pages })
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `mmap`, which nothing refers to any more.
        unsafe { libc::munmap(self.pages.as_ptr().cast(), CHUNK_BYTES) };
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::{AsFd, FromRawFd};
    use std::os::unix::fs::FileExt;

    use super::*;

    fn memory_file(bytes: usize) -> File {
        // SAFETY: a NUL-terminated name.
        let fd = unsafe { libc::memfd_create(c"chunk".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(fd >= 0);
        // SAFETY: a descriptor just returned.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(bytes as u64).unwrap();
        file
    }

    #[test]
    fn what_is_written_to_a_mapped_chunk_is_seen_through_its_descriptor_at_the_pages_place() {
        let file = memory_file(CHUNK_BYTES);
        let mut chunk = Chunk::map(file.as_fd()).unwrap();
        assert!(chunk.write(CHUNK_PAGES - 1, &[0x0403_0201; abi::PAGE_WORDS]));
        let mut bytes = [0; PAGE_BYTES];
        file.read_exact_at(&mut bytes, (CHUNK_BYTES - PAGE_BYTES) as u64).unwrap();
        assert_eq!(bytes[..8], [1, 2, 3, 4, 1, 2, 3, 4]);
        file.write_all_at(&[9; 4], 0).unwrap();
        assert_eq!(chunk.page(0).unwrap()[0], 0x0909_0909);
    }

    #[test]
    fn there_is_no_page_behind_the_last() {
        let mut chunk = Chunk::heap();
        assert!(chunk.page(CHUNK_PAGES).is_none());
        assert!(!chunk.write(CHUNK_PAGES, &[1; abi::PAGE_WORDS]));
        assert_eq!(chunk.page(CHUNK_PAGES - 1), Some(&[0; abi::PAGE_WORDS]));
    }

    #[test]
    fn a_dropped_chunk_is_unmapped() {
        let file = memory_file(CHUNK_BYTES);
        let inode = std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap()).to_string();
        let mapped = || {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            maps.lines().any(|line| line.split_whitespace().nth(4) == Some(&inode))
        };
        let chunk = Chunk::map(file.as_fd()).unwrap();
        assert!(mapped());
        drop(chunk);
        assert!(!mapped());
    }
}
