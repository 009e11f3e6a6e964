//! Where one file's structs keep what is read of them.

use std::collections::HashMap;

use python::{Layout, NO_OFFSET};

use super::debug_offsets::DebugOffsets;
use super::table;
use super::version::Version;
use crate::{Elf, Error};

/// In `PyTypeObject`, with the lock of the interpreter: `tp_basicsize`, `tp_members`.
const TYPE_BASICSIZE_AT: u64 = 32;
const TYPE_MEMBERS_AT: u64 = 240;
/// `PyMemberDef`: name, type, offset, flags, text.
const MEMBER_BYTES: u64 = 40;
const MEMBER_OFFSET_AT: u64 = 16;
const MEMBERS_MAX: u64 = 64;
/// No field of a type lies further.
const OFFSET_MAX: u64 = 1 << 12;

/// All offsets of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offsets {
    /// Without what differs from process to process.
    pub(super) layout: Layout,
    pub(super) names: Names,
}

/// What naming a code object needs beyond the walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) qualname: u16,
    pub(super) bytes_size: u16,
    pub(super) bytes_data: u16,
    pub(super) text: Text,
    pub(super) lines: LineFormat,
}

/// `PyASCIIObject` and `PyCompactUnicodeObject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) length: u16,
    pub(super) state: u16,
    /// Where the characters of a compact ASCII text begin.
    pub(super) ascii: u16,
    /// Where those of other compact texts begin.
    pub(super) compact: u16,
    /// Bits of `state` below `kind`; `compact` and `ascii` follow its three bits.
    pub(super) kind_shift: u8,
}

/// How lines are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineFormat {
    /// `co_lnotab`, Objects/lnotab_notes.txt: pairs of steps (up to 3.9).
    Steps,
    /// PEP 626, Objects/lnotab_notes.txt: ranges (3.10).
    Ranges,
    /// Objects/locations.md: locations (3.11 and later).
    Locations,
}

impl Offsets {
    /// From the file itself, as far as it tells, and the table of its version.
    pub(super) fn read(elf: &Elf<'_>, version: Version, debug: Option<&DebugOffsets>) -> Result<Self, Error> {
        if version.minor >= 13 {
            return debug.ok_or(Error::Missing("_Py_DebugOffsets"))?.offsets();
        }
        let unknown = || Error::VersionUnknown { interpreter: super::NAME, version: version.to_string() };
        let known = table::known(version.minor).ok_or_else(unknown)?;
        let mut offsets = known.offsets;
        let relocations = elf.relocations();
        let code = Type::read(elf, &relocations, "PyCode_Type")?;
        let frame = Type::read(elf, &relocations, "PyFrame_Type")?;
        check("the size of a code object", code.bytes, known.code_bytes)?;
        check("the size of a frame object", frame.bytes, known.frame_bytes)?;
        let layout = &mut offsets.layout;
        code.member("co_lnotab", &mut layout.code_linetable);
        for (name, offset) in [
            ("co_argcount", &mut layout.code_argcount),
            ("co_kwonlyargcount", &mut layout.code_kwonly),
            ("co_flags", &mut layout.code_flags),
            ("co_firstlineno", &mut layout.code_firstlineno),
            ("co_filename", &mut layout.code_filename),
            ("co_name", &mut layout.code_name),
            ("co_linetable", &mut layout.code_linetable),
            ("co_qualname", &mut offsets.names.qualname),
        ] {
            code.member(name, offset);
        }
        for (name, offset) in [
            ("f_back", &mut layout.frame_back),
            ("f_code", &mut layout.frame_code),
            ("f_lasti", &mut layout.frame_instruction),
        ] {
            frame.member(name, offset);
        }
        check_blocks(layout)?;
        Ok(offsets)
    }
}

/// A type's size and members.
struct Type {
    bytes: u64,
    members: HashMap<String, u16>,
}

impl Type {
    fn read(elf: &Elf<'_>, relocations: &HashMap<u64, u64>, name: &'static str) -> Result<Self, Error> {
        let pointer = |at: u64| relocations.get(&at).copied().or_else(|| elf.word(at));
        let at = elf.exported(name).ok_or(Error::Missing(name))?.address;
        let bytes = elf.word(at.wrapping_add(TYPE_BASICSIZE_AT)).ok_or(Error::Missing(name))?;
        let table = pointer(at.wrapping_add(TYPE_MEMBERS_AT)).ok_or(Error::Missing(name))?;
        let mut members = HashMap::new();
        for index in 0..MEMBERS_MAX {
            let member = table.wrapping_add(index * MEMBER_BYTES);
            let Some(name) = pointer(member).filter(|name| *name != 0) else { break };
            let offset = elf.word(member.wrapping_add(MEMBER_OFFSET_AT));
            if let (Some(name), Some(offset)) = (elf.text(name), offset.filter(|offset| *offset < OFFSET_MAX))
            {
                members.insert(name, offset as u16);
            }
        }
        if members.is_empty() {
            return Err(Error::Missing("the members of a type"));
        }
        Ok(Self { bytes, members })
    }

    fn member(&self, name: &str, offset: &mut u16) {
        if let Some(found) = self.members.get(name) {
            *offset = *found;
        }
    }
}

fn check(what: &'static str, found: u64, known: u64) -> Result<(), Error> {
    if found == known { Ok(()) } else { Err(Error::Unlike { what, found, known }) }
}

/// Whether the walk's two reads reach over all that it takes from them.
pub(super) fn check_blocks(layout: &Layout) -> Result<(), Error> {
    let within = |offset: u16, bytes: u16, head: u16, length: u16| {
        let (offset, head) = (u32::from(offset), u32::from(head));
        offset >= head && offset + u32::from(bytes) <= head + u32::from(length)
    };
    let frame = |offset: u16, bytes: u16| within(offset, bytes, 0, layout.frame_bytes);
    let code = |offset: u16, bytes: u16| within(offset, bytes, layout.code_head, layout.code_bytes);
    let is_frame_whole = frame(layout.frame_code, 8)
        && frame(layout.frame_back, 8)
        && frame(layout.frame_instruction, 4)
        && frame(layout.frame_entry, 1)
        && (layout.frame_tlbc == NO_OFFSET || frame(layout.frame_tlbc, 4));
    let words = [layout.code_filename, layout.code_name, layout.code_linetable];
    let numbers = [layout.code_argcount, layout.code_kwonly, layout.code_flags, layout.code_firstlineno];
    let is_code_whole = words.iter().all(|at| code(*at, 8)) && numbers.iter().all(|at| code(*at, 4));
    let bytes_max = python::BLOCK_BYTES_MAX as u16;
    let is_bounded = layout.frame_bytes <= bytes_max && layout.code_bytes <= bytes_max;
    if is_frame_whole && is_code_whole && is_bounded {
        return Ok(());
    }
    Err(Error::Missing("an offset that can be"))
}
