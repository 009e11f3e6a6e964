//! Offsets of the versions that do not tell them themselves: 3.6 to 3.12, 64-bit.
//!
//! Sources: CPython's headers at v3.6.15, v3.7.16, v3.8.18, v3.9.18, v3.10.13, v3.11.7 and v3.12.1, measured by a C
//! program with `offsetof`: `PyThreadState` in Include/pystate.h (3.6, 3.7) and Include/cpython/pystate.h; `PyFrameObject`
//! in Include/frameobject.h (until 3.8) and Include/cpython/frameobject.h; `_PyInterpreterFrame` in
//! Include/internal/pycore_frame.h; `PyCodeObject` in Include/code.h (until 3.7) and Include/cpython/code.h. The types'
//! own sizes and member tables, read from the file, are held against them.

use python::{
    ENTRY_EACH, ENTRY_FLAG, ENTRY_OWNER, INSTRUCTION_BYTES, INSTRUCTION_POINTER, INSTRUCTION_UNITS, Layout,
    NO_OFFSET,
};

use super::offsets::{LineFormat, Names, Offsets, Text};

/// What a version's types must be, or the table does not hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) offsets: Offsets,
    /// `PyCode_Type.tp_basicsize`.
    pub(super) code_bytes: u64,
    /// `PyFrame_Type.tp_basicsize`.
    pub(super) frame_bytes: u64,
}

/// `PyObject`: a reference count, then the type.
const TYPE_AT: u16 = 8;

/// The table of a minor version.
pub(super) fn known(minor: u8) -> Option<Known> {
    let (layout, code_bytes, frame_bytes) = match minor {
        // f_lasti stands behind three words for a current exception, which 3.7 does not have.
        6 => (Layout { frame_instruction: 120, frame_bytes: 128, ..oldest() }, 144, 384),
        7 => (oldest(), 144, 368),
        // co_posonlyargcount came with 3.8.
        8 | 9 => (positional(), 176, 368),
        // f_lasti counts instructions, and f_trace went.
        10 => {
            let changed = Layout { frame_instruction: 96, frame_bytes: 104, ..positional() };
            (Layout { instruction: INSTRUCTION_UNITS, ..changed }, 176, 360)
        }
        11 => (flagged(), 184, 120),
        12 => (owned(), 192, 120),
        _ => return None,
    };
    let names = Names {
        // co_qualname came with 3.11; it follows co_name.
        qualname: if minor >= 11 { layout.code_name + 8 } else { NO_OFFSET },
        bytes_size: 16,
        bytes_data: 32,
        // `PyASCIIObject` lost `wstr` with 3.12; `PyCompactUnicodeObject` adds the UTF-8 form and, until then, the length
        // of `wstr`.
        text: if minor >= 12 {
            Text { length: 16, state: 32, ascii: 40, compact: 56, kind_shift: 2 }
        } else {
            Text { length: 16, state: 32, ascii: 48, compact: 72, kind_shift: 2 }
        },
        lines: match minor {
            ..=9 => LineFormat::Steps,
            10 => LineFormat::Ranges,
            _ => LineFormat::Locations,
        },
    };
    Some(Known { offsets: Offsets { layout, names }, code_bytes, frame_bytes })
}

/// 3.7.
fn oldest() -> Layout {
    Layout {
        state_frame: 24,
        inner_frame: NO_OFFSET,
        frame_bytes: 112,
        frame_code: 32,
        frame_back: 24,
        frame_instruction: 104,
        frame_entry: 0,
        frame_tlbc: NO_OFFSET,
        code_head: TYPE_AT,
        code_bytes: 112,
        code_argcount: 16,
        code_kwonly: 20,
        code_flags: 32,
        code_firstlineno: 36,
        code_filename: 96,
        code_name: 104,
        code_linetable: 112,
        code_start: NO_OFFSET,
        code_tlbc: NO_OFFSET,
        entry: ENTRY_EACH,
        instruction: INSTRUCTION_BYTES,
        ..Layout::default()
    }
}

/// 3.8 and 3.9.
fn positional() -> Layout {
    Layout {
        code_bytes: 120,
        code_kwonly: 24,
        code_flags: 36,
        code_firstlineno: 40,
        code_filename: 104,
        code_name: 112,
        code_linetable: 120,
        ..oldest()
    }
}

/// 3.11: frames are no objects any more; the thread state leads to them through `cframe`.
fn flagged() -> Layout {
    Layout {
        state_frame: 56,
        inner_frame: 8,
        frame_bytes: 72,
        frame_code: 32,
        frame_back: 48,
        frame_instruction: 56,
        frame_entry: 68,
        code_bytes: 136,
        code_argcount: 56,
        code_kwonly: 64,
        code_flags: 48,
        code_firstlineno: 72,
        code_filename: 112,
        code_name: 120,
        code_linetable: 136,
        code_start: 184,
        entry: ENTRY_FLAG,
        instruction: INSTRUCTION_POINTER,
        ..oldest()
    }
}

/// 3.12.
fn owned() -> Layout {
    Layout {
        inner_frame: 0,
        frame_code: 0,
        frame_back: 8,
        frame_entry: 70,
        code_argcount: 52,
        code_kwonly: 60,
        code_firstlineno: 68,
        code_start: 192,
        entry: ENTRY_OWNER,
        ..flagged()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_block_reaches_over_what_is_read_of_it() {
        for minor in 6..=12 {
            let layout = known(minor).unwrap().offsets.layout;
            let frame = [layout.frame_code + 8, layout.frame_back + 8, layout.frame_instruction + 4];
            assert!(frame.iter().all(|end| *end <= layout.frame_bytes), "3.{minor}");
            let code_end = layout.code_head + layout.code_bytes;
            let code = [layout.code_linetable + 8, layout.code_name + 8, layout.code_firstlineno + 4];
            assert!(code.iter().all(|end| *end <= code_end), "3.{minor}");
        }
        assert!(known(5).is_none() && known(13).is_none());
    }
}
