//! What the headers of an ELF file say, read in bounded pieces and never mapped.

use std::cell::Cell;
use std::fs::File;

use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::{Endianness, ReadCache, ReadRef, elf};
use tables::Limited;

/// Longest build id taken; SHA-1's has 20 bytes.
const BUILD_ID_BYTES_MAX: usize = 64;
/// Sections and segments looked at in one file.
const HEADERS_MAX: usize = 4096;
/// Headers, notes and names read of one file; a sparse file may claim any number of them.
pub(super) const READ_BYTES_MAX: u64 = 4 << 20;

/// What an executable's headers say of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Empty when there is none.
    pub build_id: Vec<u8>,
    /// Bytes of `.symtab`, `.dynsym` and their string tables, as claimed.
    pub symbol_bytes: u64,
    /// Bytes of the `.debug_*` sections, as claimed.
    pub debug_bytes: u64,
    /// Bytes of the sections that unwind tables are made of, as claimed.
    pub unwind_bytes: u64,
    /// Executable segments: (file offset, bytes in the file, address at link time).
    pub segments: Vec<(u64, u64, u64)>,
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
            if [b".eh_frame".as_slice(), b".debug_frame"].contains(&name) || name.ends_with(b".gopclntab") {
                facts.unwind_bytes = facts.unwind_bytes.saturating_add(bytes);
            }
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
