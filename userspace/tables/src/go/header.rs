//! The head of `.gopclntab` (runtime/symtab.go, `pcHeader`), and what it does not say: where the code begins.

use std::fs::File;

use crate::blocks::Blocks;
use crate::elf::{Elf, Section, SectionKind};
use crate::go::TABLE_BYTES_MAX;
use crate::span::SPANS_MAX;

/// `abi.Go116PCLnTabMagic`, `Go118PCLnTabMagic`, `Go120PCLnTabMagic`.
const MAGIC_1_16: u32 = 0xffff_fffa;
const MAGIC_1_18: u32 = 0xffff_fff0;
const MAGIC_1_20: u32 = 0xffff_fff1;
/// Bytes of the longest head.
const HEADER_BYTES: usize = 8 + 8 * 8;
/// Where the head of 1.18 to 1.25 has `runtime.text`; 0 in newer ones, and before relocation.
const TEXT_OFFSET: u64 = 24;
/// Where `runtime.moduledata` has `minpc`, `maxpc` and `text`, the same since 1.16.
const MODULE_MINPC: u64 = 160;
const MODULE_TEXT: u64 = 176;
/// R_X86_64_RELATIVE, R_AARCH64_RELATIVE.
const RELATIVE: [u64; 2] = [8, 1027];
const RELA_BYTES: usize = 24;
/// Bytes of relocations, and of data for the module, that are searched.
const SEARCH_BYTES_MAX: u64 = 32 << 20;
/// Bytes of a file without section headers that are searched for the table.
const TABLE_SEARCH_BYTES_MAX: u64 = 64 << 20;
/// Words that may be the module's reference to the table.
const REFERENCES_MAX: u32 = 4096;
/// Places that look like the beginning of a table.
const CANDIDATES_MAX: u32 = 64;

/// What the head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Code counts in steps of this many bytes.
    pub(crate) quantum: u32,
    pub(crate) functions: u64,
    /// The table of functions; they lie behind it.
    pub(crate) functab: u64,
    pub(crate) names: u64,
    pub(crate) pctab: u64,
    /// 1.16: functions by 64-bit addresses instead of 32-bit distances from `runtime.text`.
    pub(crate) has_addresses: bool,
    /// 1.20: functions have a first line.
    pub(crate) has_start_line: bool,
    /// `runtime.text` as the head has it; 0 for not there.
    text: u64,
}

impl Header {
    /// Reads the head of a table; `None` when it is not plausible.
    pub(crate) fn read(blocks: &mut Blocks<'_>) -> Option<Self> {
        let mut head = [0; HEADER_BYTES];
        blocks.read(0, &mut head)?;
        let [m0, m1, m2, m3, 0, 0, quantum @ (1 | 2 | 4), 8, words @ ..] = head else { return None };
        let magic = u32::from_le_bytes([m0, m1, m2, m3]);
        let word = |index: usize| Some(u64::from_le_bytes(*words.get(8 * index..)?.first_chunk()?));
        let (text, first) = match magic {
            MAGIC_1_16 => (0, 2),
            MAGIC_1_18 | MAGIC_1_20 => (word(2)?, 3),
            _ => return None,
        };
        let header = Self {
            quantum: u32::from(quantum),
            functions: word(0)?,
            names: word(first)?,
            pctab: word(first + 3)?,
            functab: word(first + 4)?,
            has_addresses: magic == MAGIC_1_16,
            has_start_line: magic == MAGIC_1_20,
            text,
        };
        let table = header.functions.checked_mul(2)?.checked_add(1)?.checked_mul(header.field_bytes())?;
        let is_plausible = header.functions > 0
            && header.functions <= SPANS_MAX as u64
            && header.names < blocks.bytes()
            && header.pctab < blocks.bytes()
            && header.functab.checked_add(table)? <= blocks.bytes();
        is_plausible.then_some(header)
    }

    /// Where a function begins (address or distance), and its place in the table; behind the last one, where it ends.
    pub(crate) fn function(&self, index: u64, blocks: &mut Blocks<'_>) -> Option<(u64, u64)> {
        let field = self.field_bytes();
        let at = self.functab + 2 * field * index;
        let (entry, place) = if self.has_addresses {
            (blocks.u64(at)?, if index < self.functions { blocks.u64(at + field)? } else { 0 })
        } else {
            let place = if index < self.functions { blocks.u32(at + field)? } else { 0 };
            (u64::from(blocks.u32(at)?), u64::from(place))
        };
        Some((entry, self.functab.checked_add(place)?))
    }

    fn field_bytes(&self) -> u64 {
        if self.has_addresses { 8 } else { 4 }
    }
}

/// Address of `runtime.text`; `table` is the address of the table.
pub(crate) fn text_start(
    file: &File,
    elf: &Elf,
    table: u64,
    header: &Header,
    blocks: &mut Blocks<'_>,
) -> Option<u64> {
    if header.has_addresses || header.text != 0 {
        return Some(header.text);
    }
    let (first, _) = header.function(0, blocks)?;
    let (end, _) = header.function(header.functions, blocks)?;
    let fits = |text: &u64| {
        *text != 0 && end > first && text.checked_add(end).is_some_and(|end| has_code(elf, end - 1))
    };
    relocated(file, elf, table.checked_add(TEXT_OFFSET)?)
        .filter(fits)
        .or_else(|| module(file, elf, table, first).filter(fits))
        .or_else(|| {
            elf.section(SectionKind::Text).map(|text| text.address).filter(|text| fits(text) || *text == 0)
        })
}

fn has_code(elf: &Elf, address: u64) -> bool {
    elf.code(address, 1).is_some()
}

/// `text` of the module that has this table: its first word is the table's address.
fn module(file: &File, elf: &Elf, table: u64, first: u64) -> Option<u64> {
    if let Some(module) = elf.section(SectionKind::GoModule) {
        return word(file, elf, module.address.checked_add(MODULE_TEXT)?);
    }
    let (mut bytes_left, mut references_left) = (SEARCH_BYTES_MAX, REFERENCES_MAX);
    for segment in elf.segments.iter().filter(|segment| !segment.is_executable) {
        let mut blocks = Blocks::new(file, elf.file_bytes, segment.offset, segment.bytes, bytes_left);
        bytes_left -= blocks.bytes();
        let mut at = 0;
        while let Some((found, _)) = blocks.find_word(at, |word| word == table) {
            references_left = references_left.checked_sub(1)?;
            if let Some(text) = blocks.u64(found + MODULE_TEXT)
                && blocks.u64(found + MODULE_MINPC) == text.checked_add(first)
            {
                return Some(text);
            }
            at = found + 8;
        }
    }
    relocated_module(file, elf, table)
}

/// In a position-independent file the module's words are relocations, one of which gives the table's address.
fn relocated_module(file: &File, elf: &Elf, table: u64) -> Option<u64> {
    let module = relocation(file, elf, |_, addend| addend == table)?.0;
    relocated(file, elf, module.checked_add(MODULE_TEXT)?)
}

/// The word at an address, after relocation.
fn word(file: &File, elf: &Elf, address: u64) -> Option<u64> {
    let (offset, left) = elf.loaded(address)?;
    let word = Blocks::new(file, elf.file_bytes, offset, left, 8).u64(0)?;
    if word != 0 { Some(word) } else { relocated(file, elf, address) }
}

/// What relocation puts at an address.
fn relocated(file: &File, elf: &Elf, address: u64) -> Option<u64> {
    relocation(file, elf, |place, _| place == address).map(|(_, addend)| addend)
}

/// Address and value of the first relative relocation that is `wanted`.
fn relocation(file: &File, elf: &Elf, wanted: impl Fn(u64, u64) -> bool) -> Option<(u64, u64)> {
    let sections = elf.sections.iter().filter(|section| section.kind == SectionKind::Relocations);
    let mut bytes_left = SEARCH_BYTES_MAX;
    for section in sections {
        let mut blocks = Blocks::new(file, elf.file_bytes, section.offset, section.bytes, bytes_left);
        bytes_left -= blocks.bytes();
        let (mut at, mut rela) = (0, [0; RELA_BYTES]);
        while blocks.read(at, &mut rela).is_some() {
            let [place, kind, addend] = words(&rela);
            if RELATIVE.contains(&kind) && wanted(place, addend) {
                return Some((place, addend));
            }
            at += RELA_BYTES as u64;
        }
    }
    None
}

fn words(rela: &[u8; RELA_BYTES]) -> [u64; 3] {
    let (words, _) = rela.as_chunks();
    std::array::from_fn(|index| words.get(index).copied().map_or(0, u64::from_le_bytes))
}

/// Finds the table in a file that has no section headers: it is aligned, and its head is plausible.
pub(crate) fn search(file: &File, elf: &Elf) -> Option<Section> {
    let (mut bytes_left, mut candidates_left) = (TABLE_SEARCH_BYTES_MAX, CANDIDATES_MAX);
    for segment in &elf.segments {
        // Linkers align the table to at least 8 bytes.
        let skipped = segment.address.wrapping_neg() % 8;
        let (start, bytes) = (segment.offset.saturating_add(skipped), segment.bytes.saturating_sub(skipped));
        let mut blocks = Blocks::new(file, elf.file_bytes, start, bytes, bytes_left);
        bytes_left -= blocks.bytes();
        let mut at = 0;
        while let Some((found, _)) = blocks.find_word(at, begins_table) {
            candidates_left = candidates_left.checked_sub(1)?;
            let (offset, bytes) = (start + found, bytes - found);
            let mut table = Blocks::new(file, elf.file_bytes, offset, bytes, TABLE_BYTES_MAX);
            if Header::read(&mut table).is_some() {
                let address = segment.address.wrapping_add(skipped + found);
                return Some(Section { kind: SectionKind::GoPclntab, offset, bytes, address });
            }
            at = found + 8;
        }
    }
    None
}

/// Magic, two zeros, any quantum, and the size of a pointer.
fn begins_table(word: u64) -> bool {
    let magic = word as u32;
    [MAGIC_1_16, MAGIC_1_18, MAGIC_1_20].contains(&magic) && word >> 56 == 8 && word >> 32 & 0xffff == 0
}
