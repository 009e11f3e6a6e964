//! `_Py_DebugOffsets`: since 3.13 the interpreter says itself where things are.
//!
//! Source: Include/internal/pycore_runtime.h at v3.13.0, Include/internal/pycore_debug_offsets.h at v3.14.0 and in
//! Debian's 3.14.10 and 3.15.2; which word is which was measured by a C program with `offsetof`. The struct differs from
//! minor to minor and is the same in all patch levels of one.

use python::{ENTRY_OWNER, INSTRUCTION_POINTER, Layout, NO_OFFSET};

use super::offsets::{LineFormat, Names, Offsets, Text, check_blocks};
use super::version::Version;
use crate::Error;

const COOKIE: &[u8; 8] = b"xdebugpy";
/// Words of the struct that are looked at.
const WORDS_MAX: usize = 96;
/// Bytes of the struct that are looked at.
pub(super) const BYTES_MAX: usize = WORDS_MAX * 8;
/// Bytes that tell the version and the build.
pub(super) const HEAD_BYTES: usize = 24;
/// No struct is so large.
const OFFSET_MAX: u64 = 1 << 12;

/// In `PyCodeObject`, from `co_argcount` on, in all of 3.12 to 3.15: `co_flags`, `co_kwonlyargcount`.
const FLAGS_BEFORE_ARGCOUNT: u16 = 4;
const KWONLY_AFTER_ARGCOUNT: u16 = 8;
/// In an object's bytes: `PyCompactUnicodeObject` is two words longer than `PyASCIIObject` (3.12 and later).
const COMPACT_AFTER_ASCII: u16 = 16;

/// Numbers of the words of one minor version's struct.
struct Words {
    current_frame: usize,
    previous: usize,
    executable: usize,
    instruction: usize,
    owner: usize,
    tlbc_index: Option<usize>,
    filename: usize,
    name: usize,
    qualname: usize,
    linetable: usize,
    firstlineno: usize,
    argcount: usize,
    code_start: usize,
    tlbc: Option<usize>,
    object_type: usize,
    bytes_size: usize,
    bytes_data: usize,
    text_state: usize,
    text_length: usize,
    text_ascii: usize,
}

impl Words {
    fn of(minor: u8) -> Option<Self> {
        // The first words of interpreter_frame, code_object, pyobject, bytes_object and unicode_object.
        let (current_frame, frame, code, object, bytes, text) = match minor {
            13 => (23, 28, 34, 44, 64, 67),
            14 => (26, 31, 39, 50, 74, 77),
            15 => (26, 39, 47, 58, 86, 89),
            _ => return None,
        };
        Some(Self {
            current_frame,
            previous: frame + 1,
            executable: frame + 2,
            instruction: frame + 3,
            owner: frame + 5,
            tlbc_index: (minor >= 14).then_some(frame + 7),
            filename: code + 1,
            name: code + 2,
            qualname: code + 3,
            linetable: code + 4,
            firstlineno: code + 5,
            argcount: code + 6,
            code_start: code + 9,
            tlbc: (minor >= 14).then_some(code + 10),
            object_type: object + 1,
            bytes_size: bytes + 1,
            bytes_data: bytes + 2,
            text_state: text + 1,
            text_length: text + 2,
            text_ascii: text + 3,
        })
    }
}

/// The struct as it stands in a file or a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DebugOffsets {
    pub(super) version: Version,
    pub(super) is_free_threaded: bool,
    words: Vec<u64>,
}

impl DebugOffsets {
    /// `None` when this is not the struct.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        bytes.starts_with(COOKIE).then_some(())?;
        let words = bytes.as_chunks::<8>().0.iter().take(WORDS_MAX).map(|word| u64::from_le_bytes(*word));
        let words: Vec<u64> = words.collect();
        let version = Version::of_hex(*words.get(1)?)?;
        let is_free_threaded = match *words.get(2)? {
            0 => false,
            1 => true,
            _ => return None,
        };
        Some(Self { version, is_free_threaded, words })
    }

    pub(super) fn offsets(&self) -> Result<Offsets, Error> {
        let unknown =
            || Error::VersionUnknown { interpreter: super::NAME, version: self.version.to_string() };
        let words = Words::of(self.version.minor).ok_or_else(unknown)?;
        let tlbc_index = words.tlbc_index.filter(|_| self.is_free_threaded);
        let tlbc = words.tlbc.filter(|_| self.is_free_threaded);
        let optional = |index: Option<usize>| index.map_or(Ok(NO_OFFSET), |index| self.offset(index));
        let argcount = self.offset(words.argcount)?;
        let object_type = self.offset(words.object_type)?;
        let linetable = self.offset(words.linetable)?;
        let instruction = self.offset(words.instruction)?;
        let owner = self.offset(words.owner)?;
        let layout = Layout {
            state_frame: self.offset(words.current_frame)?,
            inner_frame: NO_OFFSET,
            frame_bytes: (instruction + 8).max(owner + 1).next_multiple_of(8),
            frame_code: self.offset(words.executable)?,
            frame_back: self.offset(words.previous)?,
            frame_instruction: instruction,
            frame_entry: owner,
            frame_tlbc: optional(tlbc_index)?,
            code_head: object_type,
            code_bytes: (linetable + 8).saturating_sub(object_type),
            code_argcount: argcount,
            code_kwonly: argcount + KWONLY_AFTER_ARGCOUNT,
            code_flags: argcount.saturating_sub(FLAGS_BEFORE_ARGCOUNT),
            code_firstlineno: self.offset(words.firstlineno)?,
            code_filename: self.offset(words.filename)?,
            code_name: self.offset(words.name)?,
            code_linetable: linetable,
            code_start: self.offset(words.code_start)?,
            code_tlbc: optional(tlbc)?,
            entry: ENTRY_OWNER,
            instruction: INSTRUCTION_POINTER,
            ..Layout::default()
        };
        check_blocks(&layout)?;
        let ascii = self.offset(words.text_ascii)?;
        let names = Names {
            qualname: self.offset(words.qualname)?,
            bytes_size: self.offset(words.bytes_size)?,
            bytes_data: self.offset(words.bytes_data)?,
            text: Text {
                length: self.offset(words.text_length)?,
                state: self.offset(words.text_state)?,
                ascii,
                compact: ascii + COMPACT_AFTER_ASCII,
                // `interned` is a byte of its own in free-threaded builds since 3.14 (cpython/unicodeobject.h).
                kind_shift: if self.is_free_threaded && self.version.minor >= 14 { 8 } else { 2 },
            },
            lines: LineFormat::Locations,
        };
        Ok(Offsets { layout, names })
    }

    fn offset(&self, index: usize) -> Result<u16, Error> {
        let offset = self.words.get(index).copied().filter(|offset| *offset < OFFSET_MAX);
        offset.map(|offset| offset as u16).ok_or(Error::Missing("an offset that can be"))
    }
}
