//! `.eh_frame` and `.debug_frame`: the entries of functions, and their rows.
//!
//! Sections are read block by block: an entry is put behind its CIE into a buffer of its own, which is all that the
//! DWARF reader sees (Linux Standard Base 5.0, 10.6; DWARF 5, section 6.4).

use std::fs::File;

use gimli::{
    BaseAddresses, DebugFrame, EhFrame, EndianSlice, FrameDescriptionEntry, LittleEndian, Register,
    UnwindContext, UnwindSection, Vendor,
};

use crate::blocks::Blocks;
use crate::elf::{Elf, Machine, Section, SectionKind};
use crate::rows::{Builder, Dropped};
use crate::rule::{self, Meant, Row};
use crate::span::{SPANS_MAX, Source, Span};

use entries::Entries;

mod entries;

/// Bytes of a section that are read.
const SECTION_BYTES_MAX: u64 = 256 << 20;
/// Empty entries, which end a section but may stand within one that was put together of several.
const TERMINATORS_MAX: u32 = 4096;
/// Rows of one section that are looked at, before neighbours are merged.
const STEPS_MAX: u64 = 16 << 20;
/// What one stub of a run costs: a few bytes stand for as many as their entry says.
const STEPS_PER_STUB: u64 = 32;
/// Length that says that a 64-bit length follows.
const LENGTH_64_BIT: u32 = u32::MAX;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// A section of call frame information.
#[derive(Debug)]
pub(crate) struct Frames<'a> {
    machine: Machine,
    source: Source,
    entries: Entries<'a>,
    /// Address of the section.
    address: u64,
    text: Option<u64>,
    got: Option<u64>,
    /// The section's end is not known: its first empty entry ends it.
    ends_at_terminator: bool,
    context: UnwindContext<usize>,
    steps_left: u64,
}

impl<'a> Frames<'a> {
    /// The file's `.eh_frame`, by section header or by `.eh_frame_hdr`.
    pub(crate) fn eh_frame(file: &'a File, elf: &Elf) -> Option<Self> {
        if let Some(section) = elf.section(SectionKind::EhFrame) {
            return Some(Self::new(file, elf, section, Source::EhFrame, false));
        }
        let (offset, bytes, address) = behind_header(file, elf)?;
        let section = Section { kind: SectionKind::EhFrame, offset, bytes, address };
        Some(Self::new(file, elf, &section, Source::EhFrame, true))
    }

    /// The file's `.debug_frame`.
    pub(crate) fn debug_frame(file: &'a File, elf: &Elf) -> Option<Self> {
        let section = elf.section(SectionKind::DebugFrame)?;
        Some(Self::new(file, elf, section, Source::DebugFrame, false))
    }

    fn new(file: &'a File, elf: &Elf, section: &Section, source: Source, ends_at_terminator: bool) -> Self {
        let blocks = Blocks::new(file, elf.file_bytes, section.offset, section.bytes, SECTION_BYTES_MAX);
        let address_of = |kind| elf.section(kind).map(|section| section.address);
        Self {
            machine: elf.machine,
            source,
            steps_left: STEPS_MAX,
            entries: Entries::new(source, blocks),
            address: section.address,
            text: address_of(SectionKind::Text),
            got: address_of(SectionKind::Got),
            ends_at_terminator,
            context: UnwindContext::new(),
        }
    }

    /// What code each entry describes, in the section's order.
    pub(crate) fn spans(&mut self, elf: &Elf, dropped: &mut Dropped) -> Vec<Span> {
        let (mut spans, mut at, mut terminators) = (Vec::new(), 0u64, 0);
        while let Some(length) = self.entries.blocks.u32(at) {
            if length == 0 {
                terminators += 1;
                if self.ends_at_terminator || terminators > TERMINATORS_MAX {
                    break;
                }
                at += 4;
                continue;
            }
            if length == LENGTH_64_BIT {
                // No linker writes these: a section would need 4 GiB.
                dropped.entries += 1;
                let Some(length) = self.entries.blocks.u64(at + 4) else { break };
                at = at.saturating_add(12).saturating_add(length);
                continue;
            }
            let place = at;
            at += 4 + u64::from(length);
            if at > self.entries.blocks.bytes() {
                dropped.entries += 1;
                break;
            }
            match self.entries.blocks.u32(place + 4) {
                _ if length < 4 => dropped.entries += 1,
                Some(id) if id == self.entries.cie_id() => {}
                _ => match self.code(place as u32) {
                    Some((address, bytes)) => match elf.code(address, bytes) {
                        Some(_) if spans.len() >= SPANS_MAX => dropped.cut = true,
                        Some(code) => spans.push(Span::new(code, place as u32, self.source)),
                        None => dropped.outside += 1,
                    },
                    None => dropped.entries += 1,
                },
            }
        }
        spans
    }

    /// The rows of a span of this section.
    pub(crate) fn rows(&mut self, span: &Span, builder: &mut Builder) {
        let at = if self.steps_left > 0 { self.entries.load(span.place) } else { None };
        let Some(at) = at else {
            builder.dropped.cut |= self.steps_left == 0 || self.entries.is_cut();
            builder.dropped.entries += 1;
            builder.push(span.start, None);
            return;
        };
        let read = {
            let (machine, steps_left) = (self.machine, &mut self.steps_left);
            let bases = bases(self.address, span.place, at, self.text, self.got);
            let mut emit = |row: u64, meant| {
                *steps_left = steps_left.saturating_sub(1);
                // Rows of one entry rise, so that one past the span's end is the last.
                let offset = u32::try_from(row).ok()?.checked_add(span.start).filter(|at| *at < span.end)?;
                emit(offset, span.end, meant, steps_left, builder).then_some(())
            };
            match self.source {
                Source::DebugFrame => {
                    let section = debug_frame(&self.entries.buffer, machine);
                    rows(&section, &bases, at, machine, &self.entries.buffer, &mut self.context, &mut emit)
                }
                _ => {
                    let section = eh_frame(&self.entries.buffer, machine);
                    rows(&section, &bases, at, machine, &self.entries.buffer, &mut self.context, &mut emit)
                }
            }
        };
        builder.dropped.entries += u64::from(read.is_none());
    }

    /// Address and bytes of the code that an entry describes.
    fn code(&mut self, place: u32) -> Option<(u64, u64)> {
        let at = self.entries.load(place)?;
        let bases = bases(self.address, place, at, self.text, self.got);
        match self.source {
            Source::DebugFrame => {
                let fde = parse(&debug_frame(&self.entries.buffer, self.machine), &bases, at)?;
                Some((fde.initial_address(), fde.len()))
            }
            _ => {
                let fde = parse(&eh_frame(&self.entries.buffer, self.machine), &bases, at)?;
                Some((fde.initial_address(), fde.len()))
            }
        }
    }
}

/// Address bases under which the entry at `at` of the buffer reads as at `place` of its section.
fn bases(address: u64, place: u32, at: usize, text: Option<u64>, got: Option<u64>) -> BaseAddresses {
    let mut bases =
        BaseAddresses::default().set_eh_frame(address.wrapping_add(u64::from(place)).wrapping_sub(at as u64));
    if let Some(text) = text {
        bases = bases.set_text(text);
    }
    if let Some(got) = got {
        bases = bases.set_got(got);
    }
    bases
}

fn eh_frame(buffer: &[u8], machine: Machine) -> EhFrame<Slice<'_>> {
    let mut section = EhFrame::new(buffer, LittleEndian);
    section.set_address_size(8);
    section.set_vendor(vendor(machine));
    section
}

fn debug_frame(buffer: &[u8], machine: Machine) -> DebugFrame<Slice<'_>> {
    let mut section = DebugFrame::new(buffer, LittleEndian);
    section.set_address_size(8);
    section.set_vendor(vendor(machine));
    section
}

/// Arm's vendor instruction says that the return address is signed, which a walk strips in any case.
fn vendor(machine: Machine) -> Vendor {
    if machine == Machine::Aarch64 { Vendor::AArch64 } else { Vendor::Default }
}

fn parse<'s, S: UnwindSection<Slice<'s>>>(
    section: &S,
    bases: &BaseAddresses,
    at: usize,
) -> Option<FrameDescriptionEntry<Slice<'s>>> {
    section
        .fde_from_offset(bases, S::Offset::from(at), |section, bases, cie| {
            section.cie_from_offset(bases, cie)
        })
        .ok()
}

/// Gives each row's distance from the function's start and what it means; `None` when a part cannot be read or is
/// not wanted any more.
fn rows<'s, S: UnwindSection<Slice<'s>>>(
    section: &S,
    bases: &BaseAddresses,
    at: usize,
    machine: Machine,
    buffer: &[u8],
    context: &mut UnwindContext<usize>,
    emit: &mut impl FnMut(u64, Option<Meant>) -> Option<()>,
) -> Option<()> {
    let Some(fde) = parse(section, bases, at) else {
        emit(0, None);
        return None;
    };
    let (fp, ra) = (Register(rule::fp(machine)), fde.cie().return_address_register());
    let is_signal = fde.is_signal_trampoline();
    let Ok(mut table) = fde.rows(section, bases, context) else {
        emit(0, None);
        return None;
    };
    let mut end = 0;
    loop {
        match table.next_row() {
            Ok(Some(row)) => {
                let start = row.start_address().wrapping_sub(fde.initial_address());
                end = row.end_address().wrapping_sub(fde.initial_address());
                let row = Row { cfa: row.cfa(), fp: row.register(fp), ra: row.register(ra), is_signal };
                if emit(start, Some(row.meant(machine, buffer))).is_none() {
                    return Some(());
                }
            }
            Ok(None) => return Some(()),
            Err(_) => {
                emit(end, None);
                return None;
            }
        }
    }
}

/// Writes one row, which may stand for a run of stubs, which are steps too; whether there is room for more.
fn emit(offset: u32, end: u32, meant: Option<Meant>, steps_left: &mut u64, builder: &mut Builder) -> bool {
    match meant {
        None => builder.push(offset, None),
        Some(Meant::Rule(rule)) => builder.push(offset, Some(rule)),
        Some(Meant::Stubs { pushed_from }) => (offset..end).step_by(16).all(|stub| {
            let pushed = stub.saturating_add(u32::from(pushed_from));
            *steps_left = steps_left.saturating_sub(STEPS_PER_STUB);
            if *steps_left == 0 {
                builder.dropped.cut = true;
                builder.push(stub, None);
                return false;
            }
            builder.push(stub, Some(rule::stub(false)))
                && (pushed >= end || builder.push(pushed, Some(rule::stub(true))))
        }),
    }
}

/// Offset, bytes and address of the `.eh_frame` that `.eh_frame_hdr` points to; it ends with its segment at the latest.
fn behind_header(file: &File, elf: &Elf) -> Option<(u64, u64, u64)> {
    /// Version, three encodings, and the longest pointer.
    const HEADER_BYTES: u64 = 12;
    let address = elf.eh_frame_hdr?;
    let (offset, left) = elf.loaded(address)?;
    let mut header = Vec::new();
    Blocks::new(file, elf.file_bytes, offset, left, HEADER_BYTES).append(0, 8, &mut header)?;
    // Sections of less than 12 bytes do not exist: a table has at least its count.
    header.resize(HEADER_BYTES as usize, 0);
    let bases = BaseAddresses::default().set_eh_frame_hdr(address);
    let parsed = gimli::EhFrameHdr::new(&header, LittleEndian).parse(&bases, 8).ok()?;
    let address = parsed.eh_frame_ptr().direct().ok()?;
    let (offset, left) = elf.loaded(address)?;
    Some((offset, left, address))
}
