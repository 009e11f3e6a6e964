//! Executable files: opened once while a process still maps them, held, shared by all their processes.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::sync::{Arc, Mutex, PoisonError};

use symbolizer::Executable;

use crate::mapping::{FileKey, Mapping};

mod facts;

pub use facts::{Facts, read_facts};

/// Files held open; the oldest goes first, what was read from it stays.
const FILES_MAX: usize = 4096;
/// Files with one build id are compared up to this size.
const COMPARED_BYTES_MAX: u64 = 16 << 20;
const COMPARED_STEP_BYTES: usize = 64 << 10;

/// A file with what its headers say.
#[derive(Debug)]
pub(crate) struct Binary {
    /// Unique among the executables of this process's life.
    pub(crate) id: u64,
    /// As its process sees it.
    pub(crate) path: String,
    pub(crate) build_id: Vec<u8>,
    /// For the symbolizer; `None` once no process maps it, so that its file system can be let go.
    executable: Mutex<Option<Arc<Executable>>>,
    /// The last component of the path.
    pub(crate) name: String,
    /// Executable segments: (file offset, bytes in the file, address at link time).
    segments: Vec<(u64, u64, u64)>,
}

/// All files held.
#[derive(Debug, Default)]
pub(crate) struct Binaries {
    by_key: HashMap<(FileKey, String), Slot>,
    by_build_id: HashMap<Vec<u8>, Arc<Binary>>,
    vdso: Option<Arc<Binary>>,
    next_id: u64,
    /// Files dropped at the limit.
    pub(crate) evicted: u64,
    /// Files that could not be opened or are none.
    pub(crate) unreadable: u64,
}

#[derive(Debug)]
struct Slot {
    binary: Arc<Binary>,
    inserted: u64,
}

impl Binary {
    /// The open file, while some process maps it.
    pub(crate) fn open_file(&self) -> Option<Arc<Executable>> {
        self.executable.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn close(&self) {
        *self.executable.lock().unwrap_or_else(PoisonError::into_inner) = None;
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
}

impl Binaries {
    /// The file behind a mapping of a living process; `None` when it cannot be had.
    pub(crate) fn open(
        &mut self,
        pid: u32,
        mapping: &Mapping,
        path: &str,
        key: FileKey,
    ) -> Option<Arc<Binary>> {
        if let Some(slot) = self.by_key.get(&(key, path.to_owned())) {
            return Some(Arc::clone(&slot.binary));
        }
        let Ok(file) = open_mapped(pid, mapping, path, key.inode) else {
            self.unreadable += 1;
            return None;
        };
        let binary = self.add(file, path);
        self.make_room();
        // While the file is held its inode is not used again.
        let slot = Slot { binary: Arc::clone(&binary), inserted: self.next_id };
        self.by_key.insert((key, path.to_owned()), slot);
        Some(binary)
    }

    /// The kernel's own library, the same in every 64-bit process.
    pub(crate) fn vdso(&mut self) -> Option<Arc<Binary>> {
        if self.vdso.is_none() {
            let file = symbolizer::vdso().ok()?;
            self.vdso = Some(self.add(file, "[vdso]"));
        }
        self.vdso.clone()
    }

    /// Files held now.
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Closes files that no image maps any more; frames that were named keep their names.
    pub(crate) fn retain(&mut self, in_use: impl Fn(u64) -> bool) {
        let Self { by_key, by_build_id, .. } = self;
        by_key.retain(|_, slot| {
            let keep = in_use(slot.binary.id);
            if !keep {
                slot.binary.close();
            }
            keep
        });
        by_build_id.retain(|_, binary| binary.open_file().is_some());
    }

    /// A build id alone proves nothing, a container writes its own: two files are one only when every byte is.
    fn add(&mut self, file: File, path: &str) -> Arc<Binary> {
        let facts = read_facts(&file);
        if let Some(known) = self.by_build_id.get(&facts.build_id)
            && known.open_file().is_some_and(|executable| same_content(&executable.file, &file))
        {
            return Arc::clone(known);
        }
        self.next_id += 1;
        let executable = Executable {
            id: self.next_id,
            file,
            path: path.to_owned(),
            build_id: facts.build_id.clone(),
            symbol_bytes: facts.symbol_bytes,
            debug_bytes: facts.debug_bytes,
        };
        let binary = Arc::new(Binary {
            id: self.next_id,
            path: path.to_owned(),
            build_id: facts.build_id.clone(),
            executable: Mutex::new(Some(Arc::new(executable))),
            name: path.rsplit('/').next().unwrap_or(path).to_owned(),
            segments: facts.segments,
        });
        if !facts.build_id.is_empty() {
            self.by_build_id.insert(facts.build_id, Arc::clone(&binary));
        }
        binary
    }

    fn make_room(&mut self) {
        if self.by_key.len() < FILES_MAX {
            return;
        }
        let oldest = self.by_key.iter().min_by_key(|(_, slot)| slot.inserted).map(|(key, _)| key.clone());
        if let Some(slot) = oldest.and_then(|key| self.by_key.remove(&key)) {
            slot.binary.close();
            self.by_build_id.remove(&slot.binary.build_id);
            self.evicted += 1;
        }
    }
}

/// Whether two files hold the same bytes; large ones count as different, which only costs a second look.
fn same_content(one: &File, other: &File) -> bool {
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

/// Through `map_files` a deleted file opens too, in whatever mount namespace it was; it wants
/// CAP_CHECKPOINT_RESTORE. Otherwise by path in the process's own root.
fn open_mapped(pid: u32, mapping: &Mapping, path: &str, inode: u64) -> io::Result<File> {
    let map_file = format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end);
    match open_regular(&map_file, None) {
        Ok(file) => Ok(file),
        // The path may lead elsewhere by now, or through a link of the container's: the inode tells.
        Err(_) => open_regular(&format!("/proc/{pid}/root{path}"), Some(inode)),
    }
}

/// Looks before it opens: a fifo, device or directory in the file's place is never opened at all.
fn open_regular(path: &str, inode: Option<u64>) -> io::Result<File> {
    let found = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(path)?;
    let metadata = found.metadata()?;
    if !metadata.file_type().is_file() || inode.is_some_and(|inode| inode != metadata.ino()) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{path} is not the file that is mapped"),
        ));
    }
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let reopened = format!("/proc/self/fd/{}", found.as_raw_fd());
    OpenOptions::new().read(true).custom_flags(flags).open(reopened)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use object::elf;

    use super::facts::READ_BYTES_MAX;
    use super::*;

    fn this_program() -> File {
        File::open("/proc/self/exe").unwrap()
    }

    #[test]
    fn the_headers_of_a_real_program_give_build_id_segments_and_sizes() {
        let facts = read_facts(&this_program());
        assert!(!facts.segments.is_empty());
        assert!(facts.symbol_bytes > 1000);
    }

    #[test]
    fn an_elf_that_lies_has_no_facts_and_does_no_harm() {
        let whole = std::fs::read("/proc/self/exe").unwrap();
        for length in [0, 1, 4, 5, 16, 63, 64, 100] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&whole[..length]).unwrap();
            let facts = read_facts(&file);
            assert_eq!((facts.build_id.len(), facts.debug_bytes), (0, 0), "{length} bytes");
        }
        let sparse = tempfile::tempfile().unwrap();
        (&sparse).write_all(&whole[..64]).unwrap();
        sparse.set_len(1 << 30).unwrap();
        assert_eq!(read_facts(&sparse).build_id, []);
    }

    /// A sparse 64-bit ELF file of `sections` section headers, the second of them of a symbol table.
    fn sparse_elf(sections: u64) -> File {
        let mut bytes = [0; 3 * 64];
        bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        bytes[40] = 64; // e_shoff
        bytes[58] = 64; // e_shentsize
        bytes[62] = 1; // e_shstrndx: any section will do
        // With 0 in e_shnum, the count is the first section's size.
        bytes[64 + 32..64 + 40].copy_from_slice(&sections.to_le_bytes());
        bytes[128 + 4] = elf::SHT_SYMTAB as u8;
        bytes[128 + 32..128 + 40].copy_from_slice(&1000u64.to_le_bytes());
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        file.set_len(64 + sections * 64).unwrap();
        file
    }

    #[test]
    fn headers_of_a_size_that_only_a_sparse_file_can_have_are_not_read() {
        assert_eq!(read_facts(&sparse_elf(10)).symbol_bytes, 1000);
        for sections in [READ_BYTES_MAX / 64, 1 << 30] {
            assert_eq!(read_facts(&sparse_elf(sections)), Facts::default(), "{sections}");
        }
    }

    #[test]
    fn a_fifo_in_the_place_of_a_file_is_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lib.so");
        let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: a NUL-terminated path.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        assert!(open_regular(path.to_str().unwrap(), None).is_err());
    }

    #[test]
    fn a_file_offset_becomes_the_address_at_link_time() {
        let binary = Binary {
            id: 1,
            path: "/x".into(),
            build_id: Vec::new(),
            executable: Mutex::new(None),
            name: "x".into(),
            segments: vec![(0x1000, 0x500, 0x40_1000)],
        };
        assert_eq!(binary.link_address(0x1234), 0x40_1234);
        assert_eq!(binary.link_address(0x9999), 0x9999);
        assert_eq!(binary.extent(), (0x40_1000, 0x40_1500, 0x1000));
    }

    #[test]
    fn a_build_id_that_a_file_only_claims_does_not_make_it_another() {
        let with = |tail: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&std::fs::read("/proc/self/exe").unwrap()).unwrap();
            file.write_all(tail).unwrap();
            file
        };
        let small = || {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(b"same").unwrap();
            file
        };
        assert!(same_content(&small(), &small()));
        assert!(!same_content(&with(b"a"), &with(b"b")));
        let mut binaries = Binaries::default();
        let (one, other) = (binaries.add(with(b"a"), "/good"), binaries.add(with(b"b"), "/evil"));
        assert_ne!(one.id, other.id);
    }

    #[test]
    fn a_file_that_no_image_maps_is_closed() {
        let mut binaries = Binaries::default();
        let binary = binaries.add(this_program(), "/x");
        let key = FileKey { major: 0, minor: 0, inode: 1 };
        binaries.by_key.insert((key, "/x".into()), Slot { binary: Arc::clone(&binary), inserted: 1 });
        binaries.retain(|id| id == binary.id);
        assert!(binary.open_file().is_some());
        binaries.retain(|_| false);
        assert!(binary.open_file().is_none() && binaries.len() == 0);
    }
}
