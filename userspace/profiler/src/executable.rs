//! Executable files: opened once while a process still maps them, held, shared by all their processes.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::sync::Arc;

use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::{Endianness, ReadCache, ReadRef, elf};
use symbolizer::Executable;

use crate::mapping::{FileKey, Mapping};

/// Files held open; the oldest goes first, what was read from it stays.
const FILES_MAX: usize = 4096;
/// Longest build id taken; SHA-1's has 20 bytes.
const BUILD_ID_BYTES_MAX: usize = 64;
/// Sections and segments looked at in one file.
const HEADERS_MAX: usize = 4096;
/// Headers, notes and names read of one file; a sparse file may claim any number of them.
const READ_BYTES_MAX: u64 = 4 << 20;

/// A file with what its headers say.
#[derive(Debug)]
pub(crate) struct Binary {
    /// For the symbolizer.
    pub(crate) executable: Arc<Executable>,
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
    binary: Option<Arc<Binary>>,
    inserted: u64,
}

/// What an executable's headers say of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Empty when there is none.
    pub build_id: Vec<u8>,
    /// Bytes of `.symtab`, `.dynsym` and their string tables, as claimed.
    pub symbol_bytes: u64,
    /// Bytes of the `.debug_*` sections, as claimed.
    pub debug_bytes: u64,
    /// Executable segments: (file offset, bytes in the file, address at link time).
    pub segments: Vec<(u64, u64, u64)>,
}

impl Binary {
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
            return slot.binary.clone();
        }
        let binary = match open_mapped(pid, mapping, path) {
            Ok(file) => Some(self.add(file, path)),
            Err(_) => {
                self.unreadable += 1;
                None
            }
        };
        self.make_room();
        let slot = Slot { binary: binary.clone(), inserted: self.next_id };
        // Only a file that is held keeps its inode from being used again.
        if binary.is_some() {
            self.by_key.insert((key, path.to_owned()), slot);
        }
        binary
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

    fn add(&mut self, file: File, path: &str) -> Arc<Binary> {
        let facts = read_facts(&file);
        if let Some(known) = self.by_build_id.get(&facts.build_id) {
            return Arc::clone(known);
        }
        self.next_id += 1;
        let binary = Arc::new(Binary {
            executable: Arc::new(Executable {
                id: self.next_id,
                file,
                path: path.to_owned(),
                build_id: facts.build_id.clone(),
                symbol_bytes: facts.symbol_bytes,
                debug_bytes: facts.debug_bytes,
            }),
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
        if let Some(binary) = oldest.and_then(|key| self.by_key.remove(&key)).and_then(|slot| slot.binary) {
            self.by_build_id.remove(&binary.executable.build_id);
            self.evicted += 1;
        }
    }
}

/// Through `map_files` a deleted file opens too, in whatever mount namespace it was; it wants
/// CAP_CHECKPOINT_RESTORE. Otherwise by path in the process's own root.
fn open_mapped(pid: u32, mapping: &Mapping, path: &str) -> io::Result<File> {
    let map_file = format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end);
    match open_regular(&map_file) {
        Ok(file) => Ok(file),
        Err(_) => open_regular(&format!("/proc/{pid}/root{path}")),
    }
}

/// A fifo, device or directory in the file's place is refused without waiting for it.
fn open_regular(path: &str) -> io::Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() && !kind.is_fifo() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{path} is not a regular file")))
}

/// What the headers say; nothing for a file that is no ELF or lies about itself.
pub fn read_facts(file: &File) -> Facts {
    let (cache, bytes_left) = (ReadCache::new(file), Cell::new(READ_BYTES_MAX));
    let data = Limited { cache: &cache, bytes_left: &bytes_left };
    match data.read_bytes_at(0, 5) {
        Ok([0x7f, b'E', b'L', b'F', 2]) => facts::<elf::FileHeader64<Endianness>>(data),
        Ok([0x7f, b'E', b'L', b'F', 1]) => facts::<elf::FileHeader32<Endianness>>(data),
        _ => None,
    }
    .unwrap_or_default()
}

/// Refuses reads once [`READ_BYTES_MAX`] are used up; the cache alone would take as much memory as the file claims.
#[derive(Debug, Clone, Copy)]
struct Limited<'a> {
    cache: &'a ReadCache<&'a File>,
    bytes_left: &'a Cell<u64>,
}

impl Limited<'_> {
    fn pay(&self, bytes: u64) -> Result<(), ()> {
        self.bytes_left.set(self.bytes_left.get().checked_sub(bytes).ok_or(())?);
        Ok(())
    }
}

impl<'a> ReadRef<'a> for Limited<'a> {
    fn len(self) -> Result<u64, ()> {
        self.cache.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        self.pay(size)?;
        self.cache.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        let found = self.cache.read_bytes_at_until(range, delimiter)?;
        self.pay(found.len() as u64)?;
        Ok(found)
    }
}

fn facts<'data, Elf: FileHeader<Endian = Endianness>>(data: impl ReadRef<'data>) -> Option<Facts> {
    let header = Elf::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let mut facts = Facts::default();
    for segment in header.program_headers(endian, data).ok()?.iter().take(HEADERS_MAX) {
        if segment.p_type(endian) == elf::PT_LOAD && segment.p_flags(endian) & elf::PF_X != 0 {
            let (offset, bytes) = segment.file_range(endian);
            facts.segments.push((offset, bytes, segment.p_vaddr(endian).into()));
        }
        if let Ok(Some(mut notes)) = segment.notes(endian, data) {
            while let Ok(Some(note)) = notes.next() {
                if note.name() == elf::ELF_NOTE_GNU && note.n_type(endian) == elf::NT_GNU_BUILD_ID {
                    facts.build_id = note.desc().iter().copied().take(BUILD_ID_BYTES_MAX).collect();
                }
            }
        }
    }
    // Section headers may be stripped; then there are no symbols either.
    if let Ok(sections) = header.sections(endian, data) {
        for section in sections.iter().take(HEADERS_MAX) {
            let bytes: u64 = section.sh_size(endian).into();
            let name = sections.section_name(endian, section).unwrap_or_default();
            if name.starts_with(b".debug_") {
                facts.debug_bytes = facts.debug_bytes.saturating_add(bytes);
            } else if matches!(section.sh_type(endian), elf::SHT_SYMTAB | elf::SHT_DYNSYM)
                || [b".strtab".as_slice(), b".dynstr"].contains(&name)
            {
                facts.symbol_bytes = facts.symbol_bytes.saturating_add(bytes);
            }
        }
    }
    Some(facts)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

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
        assert!(open_regular(path.to_str().unwrap()).is_err());
    }

    #[test]
    fn a_file_offset_becomes_the_address_at_link_time() {
        let binary = Binary {
            executable: Arc::new(Executable {
                id: 1,
                file: this_program(),
                path: "/x".into(),
                build_id: Vec::new(),
                symbol_bytes: 0,
                debug_bytes: 0,
            }),
            name: "x".into(),
            segments: vec![(0x1000, 0x500, 0x40_1000)],
        };
        assert_eq!(binary.link_address(0x1234), 0x40_1234);
        assert_eq!(binary.link_address(0x9999), 0x9999);
        assert_eq!(binary.extent(), (0x40_1000, 0x40_1500, 0x1000));
    }
}
