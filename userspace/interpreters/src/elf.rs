//! An executable file as interpreters are looked for in it: exported symbols, sections, bytes at link addresses.
//!
//! Everything is read in bounded pieces of a file that may lie or change.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};
use object::{LittleEndian, ReadCache, ReadRef, elf};
use tables::Limited;

use crate::Error;

/// Headers and symbols read of one file. A C++ program of 1 GB exports some megabytes.
const READ_BYTES_MAX: u64 = 64 << 20;
const SEGMENTS_MAX: usize = 64;
const SECTIONS_MAX: usize = 65_536;
/// Relocations kept of one file.
const RELOCATIONS_MAX: usize = 1 << 20;
/// Functions kept of one file's `.eh_frame_hdr`.
const FUNCTIONS_MAX: usize = 1 << 20;
const TEXT_BYTES_MAX: usize = 256;

type Header = elf::FileHeader64<LittleEndian>;

/// A defined symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Symbol {
    pub address: u64,
    pub bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    offset: u64,
    bytes: u64,
    address: u64,
    is_executable: bool,
}

/// An executable or library.
#[derive(Debug)]
pub struct Elf<'a> {
    file: &'a File,
    pub machine: u16,
    segments: Vec<Segment>,
    /// `.eh_frame_hdr`.
    unwind_index: Option<Range<u64>>,
    exported: HashMap<Vec<u8>, Symbol>,
}

/// Which of a file's symbol tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symbols {
    /// `.dynsym`: what a stripped file still has.
    Exported,
    /// `.symtab`.
    All,
}

impl<'a> Elf<'a> {
    /// Reads the headers, and of the exported symbols those that `is_wanted` asks for.
    pub fn read(file: &'a File, is_wanted: &dyn Fn(&[u8]) -> bool) -> Result<Self, Error> {
        let (cache, bytes_left) = (ReadCache::new(file), Cell::new(READ_BYTES_MAX));
        let data = Limited { cache: &cache, bytes_left: &bytes_left };
        match data.read_bytes_at(0, 6) {
            Ok([0x7f, b'E', b'L', b'F', elf::ELFCLASS64, elf::ELFDATA2LSB]) => {}
            _ => return Err(Error::NotElf64),
        }
        let header = Header::parse(data).map_err(Error::Headers)?;
        let mut read = Self {
            file,
            machine: header.e_machine.get(LittleEndian),
            segments: Vec::new(),
            unwind_index: None,
            exported: HashMap::new(),
        };
        read.add_segments(header, data)?;
        read.exported = symbols_in(header, data, Symbols::Exported, is_wanted);
        Ok(read)
    }

    /// An exported symbol that is defined here.
    pub fn exported(&self, name: &str) -> Option<Symbol> {
        self.exported.get(name.as_bytes()).copied()
    }

    /// Of a symbol table those symbols that `is_wanted` asks for.
    pub fn symbols(&self, table: Symbols, is_wanted: &dyn Fn(&[u8]) -> bool) -> HashMap<Vec<u8>, Symbol> {
        self.with_header(|header, data| symbols_in(header, data, table, is_wanted)).unwrap_or_default()
    }

    /// The addresses of a section with content.
    pub fn section(&self, name: &str) -> Option<Range<u64>> {
        self.with_header(|header, data| {
            let sections = header.sections(LittleEndian, data).ok()?;
            let found = sections.iter().take(SECTIONS_MAX).find(|section| {
                sections.section_name(LittleEndian, section).is_ok_and(|found| found == name.as_bytes())
                    && section.sh_type(LittleEndian) != elf::SHT_NOBITS
            })?;
            let start = found.sh_addr(LittleEndian);
            Some(start..start.checked_add(found.sh_size(LittleEndian))?)
        })?
    }

    /// What the dynamic loader adds to words of this file: for each address, the address that will be there before the
    /// file's own is added. Only relocations within the file are kept.
    pub fn relocations(&self) -> HashMap<u64, u64> {
        let found = self.with_header(|header, data| {
            let sections = header.sections(LittleEndian, data).ok()?;
            let mut found = HashMap::new();
            for section in sections.iter().take(SECTIONS_MAX) {
                let Ok(Some((entries, _))) = section.rela(LittleEndian, data) else { continue };
                for entry in entries.iter().take(RELOCATIONS_MAX - found.len()) {
                    let kind = entry.r_type(LittleEndian, false);
                    if kind == elf::R_X86_64_RELATIVE || kind == elf::R_AARCH64_RELATIVE {
                        let addend = entry.r_addend.get(LittleEndian) as u64;
                        found.insert(entry.r_offset.get(LittleEndian), addend);
                    }
                }
            }
            Some(found)
        });
        found.flatten().unwrap_or_default()
    }

    /// Fills `into` from the bytes that are loaded at an address.
    pub fn bytes(&self, address: u64, into: &mut [u8]) -> Option<()> {
        let (offset, left) = self.segments.iter().find_map(|segment| segment.place(address))?;
        (into.len() as u64 <= left).then_some(())?;
        self.file.read_exact_at(into, offset).ok()
    }

    /// As many bytes as are loaded from an address on, at most `bytes_max`.
    pub fn up_to(&self, address: u64, bytes_max: usize) -> Vec<u8> {
        let place = self.segments.iter().find_map(|segment| segment.place(address));
        let left = place.map_or(0, |(_, left)| left).min(bytes_max as u64);
        let mut bytes = vec![0; left as usize];
        self.bytes(address, &mut bytes).map(|()| bytes).unwrap_or_default()
    }

    pub fn word(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.bytes(address, &mut bytes)?;
        Some(u64::from_le_bytes(bytes))
    }

    /// A text that ends with a zero byte.
    pub fn text(&self, address: u64) -> Option<String> {
        let bytes = self.up_to(address, TEXT_BYTES_MAX);
        let end = bytes.iter().position(|&byte| byte == 0)?;
        String::from_utf8(bytes[..end].to_vec()).ok()
    }

    /// How much higher addresses are in a process that maps code from an offset in the file to an address.
    pub fn bias(&self, mapped_at: u64, file_offset: u64) -> Option<u64> {
        const PAGE_BYTES: u64 = 4096;
        let segment = self.segments.iter().filter(|segment| segment.is_executable).find(|segment| {
            let start = segment.offset & !(PAGE_BYTES - 1);
            (start..segment.offset.saturating_add(segment.bytes)).contains(&file_offset)
        })?;
        let link_address = segment.address.wrapping_sub(segment.offset).wrapping_add(file_offset);
        Some(mapped_at.wrapping_sub(link_address))
    }

    /// Whether an address is in code.
    pub fn is_code(&self, address: u64) -> bool {
        self.segments.iter().any(|segment| segment.is_executable && segment.place(address).is_some())
    }

    /// Where functions begin, rising, as `.eh_frame_hdr` lists them. A function reaches at most to the next.
    pub fn functions(&self) -> Vec<u64> {
        self.try_functions().unwrap_or_default()
    }

    fn try_functions(&self) -> Option<Vec<u64>> {
        /// Version 1; the frame pointer of 4 bytes from here; a count of 4 bytes; a table of pairs of 4 bytes, from the
        /// header's begin (what all linkers write).
        const ENCODINGS: [u8; 4] = [1, 0x1b, 0x03, 0x3b];
        let index = self.unwind_index.clone()?;
        let mut head = [0; 12];
        self.bytes(index.start, &mut head)?;
        (head[..4] == ENCODINGS).then_some(())?;
        let count = u32::from_le_bytes(head[8..12].try_into().ok()?) as usize;
        let pairs = self.up_to(index.start + 12, count.min(FUNCTIONS_MAX).checked_mul(8)?);
        let starts = pairs.chunks_exact(8).map(|pair| {
            let from_header = i32::from_le_bytes([pair[0], pair[1], pair[2], pair[3]]);
            index.start.wrapping_add_signed(i64::from(from_header))
        });
        let starts: Vec<u64> = starts.collect();
        starts.is_sorted().then_some(starts)
    }

    fn add_segments<'data>(&mut self, header: &Header, data: impl ReadRef<'data>) -> Result<(), Error> {
        let file_bytes = self.file.metadata()?.len();
        for segment in header.program_headers(LittleEndian, data).map_err(Error::Headers)? {
            let address = segment.p_vaddr(LittleEndian);
            let memory_bytes = segment.p_memsz(LittleEndian);
            match segment.p_type(LittleEndian) {
                elf::PT_LOAD if self.segments.len() < SEGMENTS_MAX => {
                    let (offset, bytes) = segment.file_range(LittleEndian);
                    self.segments.push(Segment {
                        offset,
                        bytes: bytes.min(file_bytes.saturating_sub(offset)),
                        address,
                        is_executable: segment.p_flags(LittleEndian) & elf::PF_X != 0,
                    });
                }
                elf::PT_GNU_EH_FRAME => {
                    self.unwind_index = Some(address..address.saturating_add(memory_bytes));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn with_header<T>(&self, use_header: impl FnOnce(&Header, Limited<'_>) -> T) -> Option<T> {
        let (cache, bytes_left) = (ReadCache::new(self.file), Cell::new(READ_BYTES_MAX));
        let data = Limited { cache: &cache, bytes_left: &bytes_left };
        Some(use_header(Header::parse(data).ok()?, data))
    }
}

impl Segment {
    /// Offset in the file of an address, and bytes that follow it in the segment.
    fn place(&self, address: u64) -> Option<(u64, u64)> {
        let within = address.checked_sub(self.address).filter(|within| *within < self.bytes)?;
        Some((self.offset.checked_add(within)?, self.bytes - within))
    }
}

fn symbols_in<'data>(
    header: &Header,
    data: impl ReadRef<'data>,
    table: Symbols,
    is_wanted: &dyn Fn(&[u8]) -> bool,
) -> HashMap<Vec<u8>, Symbol> {
    let kind = match table {
        Symbols::Exported => elf::SHT_DYNSYM,
        Symbols::All => elf::SHT_SYMTAB,
    };
    let sections = header.sections(LittleEndian, data);
    let Ok(symbols) = sections.and_then(|sections| sections.symbols(LittleEndian, data, kind)) else {
        return HashMap::new();
    };
    let mut found = HashMap::new();
    for symbol in symbols.iter().filter(|symbol| !symbol.is_undefined(LittleEndian)) {
        let Ok(name) = symbols.symbol_name(LittleEndian, symbol) else { continue };
        if is_wanted(name) {
            let address = symbol.st_value(LittleEndian);
            found.insert(name.to_vec(), Symbol { address, bytes: symbol.st_size(LittleEndian) });
        }
    }
    found
}
