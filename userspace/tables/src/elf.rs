//! Where an ELF file keeps its code and its unwind information, by headers read in bounded pieces.

use std::cell::Cell;
use std::fs::File;
use std::ops::Range;

use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::{LittleEndian, ReadCache, ReadRef, elf};

use crate::{Error, Limited};

/// Sections and segments looked at in one file.
const HEADERS_MAX: usize = 65_536;
/// Headers and names read of one file.
const HEADER_BYTES_MAX: u64 = 16 << 20;
/// Loaded segments kept of one file.
const SEGMENTS_MAX: usize = 64;
/// Sections kept of one file.
const SECTIONS_MAX: usize = 64;

/// What instructions a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Machine {
    X86_64,
    Aarch64,
}

/// A PT_LOAD segment, cut to the file's end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) address: u64,
    pub(crate) is_executable: bool,
}

/// A section that unwinding may need.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Section {
    pub(crate) kind: SectionKind,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) address: u64,
}

/// What a section is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SectionKind {
    EhFrame,
    DebugFrame,
    GoPclntab,
    GoModule,
    Text,
    Got,
    Relocations,
}

/// What the headers say.
#[derive(Debug)]
pub(crate) struct Elf {
    pub(crate) machine: Machine,
    pub(crate) file_bytes: u64,
    pub(crate) segments: Vec<Segment>,
    pub(crate) sections: Vec<Section>,
    /// Whether there are section headers at all.
    pub(crate) has_sections: bool,
    /// Address of `.eh_frame_hdr`, from its program header.
    pub(crate) eh_frame_hdr: Option<u64>,
}

impl Elf {
    /// Reads the headers of a file.
    pub(crate) fn read(file: &File) -> Result<Self, Error> {
        let (cache, bytes_left) = (ReadCache::new(file), Cell::new(HEADER_BYTES_MAX));
        let data = Limited { cache: &cache, bytes_left: &bytes_left };
        match data.read_bytes_at(0, 6) {
            Ok([0x7f, b'E', b'L', b'F', elf::ELFCLASS64, elf::ELFDATA2LSB]) => {}
            _ => return Err(Error::NotElf64),
        }
        let header = elf::FileHeader64::<LittleEndian>::parse(data).map_err(Error::Headers)?;
        let machine = match header.e_machine.get(LittleEndian) {
            elf::EM_X86_64 => Machine::X86_64,
            elf::EM_AARCH64 => Machine::Aarch64,
            other => return Err(Error::Machine(other)),
        };
        let mut read = Self {
            machine,
            file_bytes: file.metadata()?.len(),
            segments: Vec::new(),
            sections: Vec::new(),
            has_sections: false,
            eh_frame_hdr: None,
        };
        read.add_segments(header, data)?;
        read.add_sections(header, data);
        Ok(read)
    }

    /// The file offsets of `bytes` bytes of code from `address` on, cut to their segment; `None` when no
    /// executable segment has them or they lie above 4 GiB.
    pub(crate) fn code(&self, address: u64, bytes: u64) -> Option<Range<u32>> {
        let (offset, left) = place(self.segments.iter().filter(|segment| segment.is_executable), address)?;
        let start = u32::try_from(offset).ok()?;
        let end = u32::try_from(offset + bytes.min(left)).unwrap_or(u32::MAX);
        Some(start..end)
    }

    /// Where in the file an address is loaded from, and how many bytes of that segment follow.
    pub(crate) fn loaded(&self, address: u64) -> Option<(u64, u64)> {
        place(self.segments.iter(), address)
    }

    /// The first section of a kind.
    pub(crate) fn section(&self, kind: SectionKind) -> Option<&Section> {
        self.sections.iter().find(|section| section.kind == kind)
    }

    fn add_segments<'data>(&mut self, header: &Header, data: impl ReadRef<'data>) -> Result<(), Error> {
        let segments = header.program_headers(LittleEndian, data).map_err(Error::Headers)?;
        for segment in segments.iter().take(HEADERS_MAX) {
            let (offset, bytes) = segment.file_range(LittleEndian);
            let address = segment.p_vaddr(LittleEndian);
            match segment.p_type(LittleEndian) {
                elf::PT_LOAD if self.segments.len() < SEGMENTS_MAX => {
                    let bytes = bytes.min(self.file_bytes.saturating_sub(offset));
                    let is_executable = segment.p_flags(LittleEndian) & elf::PF_X != 0;
                    self.segments.push(Segment { offset, bytes, address, is_executable });
                }
                elf::PT_GNU_EH_FRAME => self.eh_frame_hdr = Some(address),
                _ => {}
            }
        }
        Ok(())
    }

    /// Section headers may be stripped, or be no more in the file.
    fn add_sections<'data>(&mut self, header: &Header, data: impl ReadRef<'data>) {
        let Ok(sections) = header.sections(LittleEndian, data) else { return };
        self.has_sections = !sections.is_empty();
        for section in sections.iter().take(HEADERS_MAX) {
            let kind = match section.sh_type(LittleEndian) {
                elf::SHT_NOBITS => continue,
                elf::SHT_RELA => Some(SectionKind::Relocations),
                _ => named(sections.section_name(LittleEndian, section).unwrap_or_default()),
            };
            let Some(kind) = kind else { continue };
            // Compressed sections are not read: only .debug_frame may be, and then .eh_frame is there too.
            let is_compressed = section.sh_flags(LittleEndian) & u64::from(elf::SHF_COMPRESSED) != 0;
            if !is_compressed && self.sections.len() < SECTIONS_MAX {
                self.sections.push(Section {
                    kind,
                    offset: section.sh_offset(LittleEndian),
                    bytes: section.sh_size(LittleEndian),
                    address: section.sh_addr(LittleEndian),
                });
            }
        }
    }
}

type Header = elf::FileHeader64<LittleEndian>;

fn place<'a>(mut segments: impl Iterator<Item = &'a Segment>, address: u64) -> Option<(u64, u64)> {
    segments.find_map(|segment| {
        let within = address.checked_sub(segment.address).filter(|within| *within < segment.bytes)?;
        Some((segment.offset.checked_add(within)?, segment.bytes - within))
    })
}

fn named(name: &[u8]) -> Option<SectionKind> {
    Some(match name {
        b".eh_frame" => SectionKind::EhFrame,
        b".debug_frame" => SectionKind::DebugFrame,
        b".gopclntab" | b".data.rel.ro.gopclntab" => SectionKind::GoPclntab,
        b".go.module" => SectionKind::GoModule,
        b".text" => SectionKind::Text,
        b".got" => SectionKind::Got,
        _ => return None,
    })
}
