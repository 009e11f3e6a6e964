//! What an ELF file consists of, by small bounded reads: decides how much of the file may be mapped and
//! unpacked, before a reader that has no limits of its own sees it.
//!
//! Format: <https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html>.

mod read;

use std::io::{self, BufReader, Read};

use flate2::read::ZlibDecoder;
use xz2::read::XzDecoder;
use xz2::stream::Stream;

use crate::query::Reason;
pub use read::ReadAt;
use read::{half, quarter, read, word};

const STUB_SECTIONS_MAX: usize = 16;
const SECTIONS_MAX: u64 = 16_384;
const PROGRAM_HEADERS_MAX: u64 = 1024;
const SECTION_NAMES_BYTES_MAX: u64 = 1024 * 1024;
/// Memory of an xz decoder; `xz -9` asks for 65 MiB.
const XZ_MEMORY_BYTES_MAX: u64 = 80 * 1024 * 1024;

const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const PT_LOAD: u32 = 1;
const PF_X: u32 = 1;
const SHT_NOBITS: u32 = 8;
const SHF_COMPRESSED: u64 = 0x800;
const ELFCOMPRESS_ZLIB: u32 = 1;
const PN_XNUM: u64 = 0xffff;
const SHN_XINDEX: u64 = 0xffff;
#[cfg(target_endian = "little")]
const ELFDATA_NATIVE: u8 = 1;
#[cfg(target_endian = "big")]
const ELFDATA_NATIVE: u8 = 2;

/// A part of the file that is mapped into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Load {
    offset: u64,
    address: u64,
    bytes: u64,
    executable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Section {
    offset: u64,
    bytes: u64,
}

/// A compressed section with the unpacked size that it claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Compressed {
    stream: Section,
    inflated_bytes: u64,
}

/// Sizes and places of what naming an address needs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Layout {
    loads: Vec<Load>,
    /// `.symtab`, `.dynsym` and their string tables.
    pub symbol_bytes: u64,
    /// `.debug_*` unpacked, as claimed by the file.
    pub debug_bytes: u64,
    /// The part of `debug_bytes` that is compressed in the file.
    pub inflated_bytes: u64,
    compressed: Vec<Compressed>,
    /// Debug information is compressed in a way that cannot be unpacked here.
    unknown_compression: bool,
    /// The file names another one that holds (part of) its debug information. Such a name comes from inside
    /// an untrusted file and would be looked up among the host's files.
    refers_to_other_file: bool,
    /// The first of the name, which is the one that is read, may be there and empty.
    symtab: Option<Section>,
    /// Sections of stubs that jump to other files' functions. No symbol names them; one without a size that
    /// stands before them would.
    stubs: Vec<Section>,
    minidebug: Option<Section>,
}

/// Reads the headers of an ELF file.
///
/// # Errors
/// [`Reason::NotElf`] for anything but a program or library of this machine's byte order,
/// [`Reason::Unreadable`] when headers are missing or beyond all measure.
pub fn parse(file: &(impl ReadAt + ?Sized)) -> Result<Layout, Reason> {
    let header = Header::parse(file)?;
    let mut layout = Layout { loads: header.loads(file)?, ..Layout::default() };
    for (name, section) in header.sections(file)? {
        layout.add(file, &header, &name, section)?;
    }
    Ok(layout)
}

impl Layout {
    /// Virtual address of a byte of the file. Executable segments come first where several hold the byte.
    pub fn virtual_address(&self, file_offset: u64) -> Option<u64> {
        let holds = |load: &&Load| file_offset.checked_sub(load.offset).is_some_and(|at| at < load.bytes);
        let load = self.loads.iter().filter(|load| load.executable).find(holds);
        let load = load.or_else(|| self.loads.iter().find(holds))?;
        load.address.checked_add(file_offset - load.offset)
    }

    /// Whether a byte of the file belongs to a stub that jumps to another file's function.
    pub fn is_stub(&self, file_offset: u64) -> bool {
        let holds =
            |section: &Section| file_offset.checked_sub(section.offset).is_some_and(|at| at < section.bytes);
        self.stubs.iter().any(holds)
    }

    /// Whether debug information can be read from this file alone.
    pub fn debug_readable(&self) -> bool {
        self.debug_bytes > 0 && !self.unknown_compression && !self.refers_to_other_file
    }

    /// Whether there is anything that could name an address.
    pub fn has_names(&self) -> bool {
        self.symbol_bytes > 0 || self.debug_bytes > 0 || self.minidebug_used().is_some()
    }

    /// Unpacks the compressed sections without keeping them: whether each is as large as it claims.
    pub fn inflated_as_claimed(&self, file: &(impl ReadAt + ?Sized)) -> bool {
        self.compressed.iter().all(|section| {
            let stream = Stretch { file, section: section.stream };
            measure(ZlibDecoder::new(BufReader::new(stream)), section.inflated_bytes)
                == Ok(section.inflated_bytes)
        })
    }

    /// What `.gnu_debugdata` unpacks to where it stands for `.symtab`, else 0.
    ///
    /// # Errors
    /// [`Reason::TooLarge`] beyond `bytes_max`, [`Reason::Unreadable`] when it cannot be unpacked.
    pub fn symbol_bytes_unpacked(
        &self,
        file: &(impl ReadAt + ?Sized),
        bytes_max: u64,
    ) -> Result<u64, Reason> {
        let Some(section) = self.minidebug_used() else { return Ok(0) };
        let decoder =
            Stream::new_stream_decoder(XZ_MEMORY_BYTES_MAX, 0).map_err(|_unusable| Reason::Unreadable)?;
        let stream = Stretch { file, section };
        measure(XzDecoder::new_stream(BufReader::new(stream), decoder), bytes_max)
    }

    fn minidebug_used(&self) -> Option<Section> {
        let symtab = self.symtab.is_some_and(|symtab| symtab.bytes > 0);
        self.minidebug.filter(|minidebug| minidebug.bytes > 0 && !symtab)
    }

    fn add(
        &mut self,
        file: &(impl ReadAt + ?Sized),
        header: &Header,
        name: &[u8],
        section: SectionHeader,
    ) -> Result<(), Reason> {
        let held =
            if section.kind == SHT_NOBITS { Section { bytes: 0, ..section.place } } else { section.place };
        match name {
            b".symtab" => drop(self.symtab.get_or_insert(held)),
            b".gnu_debugdata" => drop(self.minidebug.get_or_insert(held)),
            _ => {}
        }
        if section.kind == SHT_NOBITS {
            return Ok(());
        }
        match name {
            b".symtab" | b".strtab" | b".dynsym" | b".dynstr" => {
                self.symbol_bytes = self.symbol_bytes.saturating_add(section.place.bytes);
            }
            b".plt" | b".plt.sec" | b".plt.got" | b".iplt" if self.stubs.len() < STUB_SECTIONS_MAX => {
                self.stubs.push(section.place);
            }
            b".gnu_debuglink" | b".gnu_debugaltlink" | b".debug_sup" => self.refers_to_other_file = true,
            _ if name.starts_with(b".debug_") && section.flags & SHF_COMPRESSED != 0 => {
                self.add_compressed(file, header, section.place)?;
            }
            _ if name.starts_with(b".debug_") => {
                self.debug_bytes = self.debug_bytes.saturating_add(section.place.bytes);
            }
            _ => {}
        }
        Ok(())
    }

    fn add_compressed(
        &mut self,
        file: &(impl ReadAt + ?Sized),
        header: &Header,
        place: Section,
    ) -> Result<(), Reason> {
        // Elf64_Chdr: type, reserved, size, alignment; Elf32_Chdr: type, size, alignment.
        let header_bytes = if header.wide { 24 } else { 12 };
        let bytes = read(file, place.offset, header_bytes)?;
        let inflated_bytes = if header.wide { word(&bytes, 8, true) } else { word(&bytes, 4, false) };
        self.unknown_compression |= half(&bytes, 0) != ELFCOMPRESS_ZLIB;
        let stream = Section {
            offset: place.offset.saturating_add(header_bytes),
            bytes: place.bytes.saturating_sub(header_bytes),
        };
        self.compressed.push(Compressed { stream, inflated_bytes });
        self.inflated_bytes = self.inflated_bytes.saturating_add(inflated_bytes);
        self.debug_bytes = self.debug_bytes.saturating_add(inflated_bytes);
        Ok(())
    }
}

/// Length of what `reader` yields.
fn measure(mut reader: impl Read, bytes_max: u64) -> Result<u64, Reason> {
    let mut buffer = [0; 16 * 1024];
    let mut bytes = 0u64;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(read) => bytes += read as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Err(Reason::Unreadable),
        }
        if bytes > bytes_max {
            return Err(Reason::TooLarge);
        }
    }
}

/// Reads a section from its start to its end.
struct Stretch<'a, F: ?Sized> {
    file: &'a F,
    section: Section,
}

impl<F: ReadAt + ?Sized> Read for Stretch<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = usize::try_from(self.section.bytes).unwrap_or(usize::MAX).min(buffer.len());
        self.file.read_exact_at(&mut buffer[..bytes], self.section.offset)?;
        self.section.offset += bytes as u64;
        self.section.bytes -= bytes as u64;
        Ok(bytes)
    }
}

#[derive(Clone, Copy)]
struct SectionHeader {
    name: u32,
    kind: u32,
    flags: u64,
    place: Section,
    link: u32,
    info: u32,
}

/// The file header's places of the other headers.
struct Header {
    /// 64-bit.
    wide: bool,
    programs_offset: u64,
    programs: u64,
    program_bytes: u64,
    sections_offset: u64,
    sections: u64,
    section_bytes: u64,
    names_section: u64,
}

impl Header {
    fn parse(file: &(impl ReadAt + ?Sized)) -> Result<Self, Reason> {
        let ident = match read(file, 0, 20) {
            Ok(ident) => ident,
            Err(error) => {
                // Shorter than any header, or not readable at all.
                let mut byte = [0];
                let readable = match file.read_exact_at(&mut byte, 0) {
                    Ok(()) => true,
                    Err(error) => error.kind() == io::ErrorKind::UnexpectedEof,
                };
                return Err(if readable { Reason::NotElf } else { error });
            }
        };
        let wide = match ident[4] {
            1 => false,
            2 => true,
            _ => return Err(Reason::NotElf),
        };
        let kind = quarter(&ident, 16);
        if !ident.starts_with(b"\x7fELF") || ident[5] != ELFDATA_NATIVE || ![ET_EXEC, ET_DYN].contains(&kind)
        {
            return Err(Reason::NotElf);
        }
        let bytes = read(file, 0, if wide { 64 } else { 52 })?;
        let counts = if wide { 54 } else { 42 };
        let count = |n: usize| u64::from(quarter(&bytes, counts + 2 * n));
        let mut header = Self {
            wide,
            programs_offset: word(&bytes, if wide { 32 } else { 28 }, wide),
            programs: count(1),
            program_bytes: count(0),
            sections_offset: word(&bytes, if wide { 40 } else { 32 }, wide),
            sections: count(3),
            section_bytes: count(2),
            names_section: count(4),
        };
        header.read_extended_counts(file)?;
        // The reader that comes after assumes the sizes of the standard.
        let sizes_known = (header.programs == 0 || header.program_bytes == if wide { 56 } else { 32 })
            && (header.sections == 0 || header.section_bytes == if wide { 64 } else { 40 });
        let few = header.programs <= PROGRAM_HEADERS_MAX && header.sections <= SECTIONS_MAX;
        if sizes_known && few { Ok(header) } else { Err(Reason::Unreadable) }
    }

    /// Counts that do not fit the file header stand in the first section header.
    fn read_extended_counts(&mut self, file: &(impl ReadAt + ?Sized)) -> Result<(), Reason> {
        if self.sections_offset == 0 {
            self.sections = 0;
            return Ok(());
        }
        if self.sections > 0 && self.programs != PN_XNUM && self.names_section != SHN_XINDEX {
            return Ok(());
        }
        let first = self.section(&read(file, self.sections_offset, if self.wide { 64 } else { 40 })?);
        if self.sections == 0 {
            self.sections = first.place.bytes;
        }
        if self.programs == PN_XNUM {
            self.programs = u64::from(first.info);
        }
        if self.names_section == SHN_XINDEX {
            self.names_section = u64::from(first.link);
        }
        Ok(())
    }

    fn loads(&self, file: &(impl ReadAt + ?Sized)) -> Result<Vec<Load>, Reason> {
        if self.programs == 0 {
            return Ok(Vec::new());
        }
        let table = read(file, self.programs_offset, self.programs * self.program_bytes)?;
        let wide = self.wide;
        let load = |entry: &[u8]| {
            let flags = half(entry, if wide { 4 } else { 24 });
            (half(entry, 0) == PT_LOAD).then(|| Load {
                offset: word(entry, if wide { 8 } else { 4 }, wide),
                address: word(entry, if wide { 16 } else { 8 }, wide),
                bytes: word(entry, if wide { 32 } else { 16 }, wide),
                executable: flags & PF_X != 0,
            })
        };
        Ok(table.chunks_exact(if wide { 56 } else { 32 }).filter_map(load).collect())
    }

    fn sections(&self, file: &(impl ReadAt + ?Sized)) -> Result<Vec<(Vec<u8>, SectionHeader)>, Reason> {
        if self.sections == 0 {
            return Ok(Vec::new());
        }
        let table = read(file, self.sections_offset, self.sections * self.section_bytes)?;
        let headers: Vec<_> =
            table.chunks_exact(if self.wide { 64 } else { 40 }).map(|entry| self.section(entry)).collect();
        let place = usize::try_from(self.names_section).ok().and_then(|index| headers.get(index));
        let place = place.map(|names| names.place).ok_or(Reason::Unreadable)?;
        if place.bytes > SECTION_NAMES_BYTES_MAX {
            return Err(Reason::Unreadable);
        }
        let names = read(file, place.offset, place.bytes)?;
        let named = |header: SectionHeader| {
            let name = names.get(header.name as usize..).unwrap_or_default();
            let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
            // Nothing that matters has a longer name; thousands of sections may share one long string.
            (name[..end.min(32)].to_vec(), header)
        };
        Ok(headers.into_iter().skip(1).map(named).collect())
    }

    fn section(&self, entry: &[u8]) -> SectionHeader {
        let wide = self.wide;
        let (flags, offset, bytes, link) = if wide { (8, 24, 32, 40) } else { (8, 16, 20, 24) };
        SectionHeader {
            name: half(entry, 0),
            kind: half(entry, 4),
            flags: word(entry, flags, wide),
            place: Section { offset: word(entry, offset, wide), bytes: word(entry, bytes, wide) },
            link: half(entry, link),
            info: half(entry, link + 4),
        }
    }
}

#[cfg(test)]
mod tests;
