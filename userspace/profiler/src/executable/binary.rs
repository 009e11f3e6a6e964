//! An executable file: what is known of it for good, and the file while some process maps it.

use std::sync::{Arc, Mutex, PoisonError};

use symbolizer::Executable;

/// A file with what its headers say.
#[derive(Debug)]
pub(crate) struct Binary {
    /// Unique among the executables of this process's life.
    pub(crate) id: u64,
    /// In the kernel's table of executables; given to another file only after this one was let go.
    pub(crate) slot: u32,
    /// As its process sees it.
    pub(crate) path: String,
    pub(crate) build_id: Vec<u8>,
    /// For the symbolizer and the unwind tables; `None` once no process maps it, so that its file system can
    /// be let go.
    pub(super) executable: Mutex<Option<Arc<Executable>>>,
    /// The last component of the path.
    pub(crate) name: String,
    /// Executable segments: (file offset, bytes in the file, address at link time).
    pub(super) segments: Vec<(u64, u64, u64)>,
}

impl Binary {
    /// The open file, while some process maps it.
    pub(crate) fn open_file(&self) -> Option<Arc<Executable>> {
        self.executable.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The open file, which is gone from here then.
    pub(super) fn take_file(&self) -> Option<Arc<Executable>> {
        self.executable.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether it is an ELF file with code.
    pub(crate) fn has_code(&self) -> bool {
        !self.segments.is_empty()
    }

    /// Where in the file the segment ends that begins, by whole pages, at this offset.
    pub(crate) fn segment_end(&self, file_offset: u64, page_bytes: u64) -> Option<u64> {
        let begins = |start: u64| start - start % page_bytes == file_offset;
        let (start, bytes, _) = self.segments.iter().find(|(start, _, _)| begins(*start))?;
        start.checked_add(*bytes)?.checked_next_multiple_of(page_bytes)
    }

    /// The address that a file offset has at link time, which a backend needs to symbolize later.
    pub(crate) fn link_address(&self, file_offset: u64) -> u64 {
        let segment = self
            .segments
            .iter()
            .find(|(start, bytes, _)| file_offset >= *start && file_offset - start < *bytes);
        segment.map_or(file_offset, |(start, _, address)| address.wrapping_add(file_offset - start))
    }

    /// Start, end and file offset of the first executable segment, at link time.
    pub(crate) fn extent(&self) -> (u64, u64, u64) {
        let Some((offset, _, start)) = self.segments.first() else {
            return (0, u64::MAX, 0);
        };
        let end = self.segments.iter().map(|(_, bytes, address)| address.saturating_add(*bytes)).max();
        (*start, end.unwrap_or(u64::MAX), *offset)
    }

    /// A file of which nothing is known.
    #[cfg(test)]
    pub(crate) fn for_test(id: u64, slot: u32) -> Self {
        Self {
            id,
            slot,
            path: format!("/{id}"),
            build_id: Vec::new(),
            executable: Mutex::new(None),
            name: id.to_string(),
            segments: Vec::new(),
        }
    }
}
