//! One thread's Python frames, innermost first.

use crate::checksum::{Identity, checksum};
use crate::layout::{
    BLOCK_BYTES_MAX, ENTRY_EACH, ENTRY_FLAG, ENTRY_OWNER, INSTRUCTION_BYTES, INSTRUCTION_UNITS, Layout,
    NO_OFFSET, OWNER_ENTRY_MIN, TAG_BITS, UNIT_BYTES,
};
use crate::{Block, Reason};

/// [`Frame::instruction`]: not known; the frame has not begun, or what it says cannot be.
pub const INSTRUCTION_UNKNOWN: u32 = u32::MAX;

/// Code of one function is never so long.
const CODE_BYTES_MAX: u64 = 1 << 26;
/// Copies of one function's code, one for each thread.
const COPIES_MAX: u32 = 1 << 16;
/// `_PyCodeArray.entries`, behind its size.
const COPIES_AT: u64 = 8;
/// `CO_NO_MONITORING_EVENTS`: only code of the interpreter's own has it, such as what calls `__init__` (3.13 and
/// later).
const FLAG_OWN: u32 = 0x200_0000;
/// The first page is never mapped.
const FRAME_ADDRESS_MIN: u64 = 4096;

/// The memory that a walk goes through.
pub trait Memory {
    /// The word at an address; `None` when it cannot be read.
    fn word(&mut self, address: u64) -> Option<u64>;

    /// `bytes` bytes, at most [`BLOCK_BYTES_MAX`], into the begin of a block; `None` when one cannot be read.
    fn read(&mut self, address: u64, bytes: u32, into: &mut Block) -> Option<()>;
}

/// A Python frame: which function, and where in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Address of the code object.
    pub code: u64,
    /// Byte offset of the instruction, or [`INSTRUCTION_UNKNOWN`].
    pub instruction: u32,
    /// [`checksum`] of the code object.
    pub checksum: u32,
}

/// Outcome of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A frame; the same native frame runs its caller too.
    Frame(Frame),
    /// A frame, and the native frame that runs it runs no other.
    Last(Frame),
    /// No frame: the native frame of the evaluation loop began here. Where this mark lies: on the native stack, within
    /// that native frame.
    Entry(u64),
    /// No frame: code of the interpreter's own. The next step goes on.
    Own,
    /// There is no frame here; why.
    End(Reason),
}

/// The state between two frames.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    /// Address of the next frame; 0 when there is none.
    pub frame: u64,
    /// A frame that was passed: to meet it again is to go round in a ring.
    mark: u64,
    /// Frames since the mark, and after how many it is set anew: each time twice as many.
    since_mark: u32,
    until_mark: u32,
    block: Block,
}

impl Walk {
    /// Before the start.
    pub const EMPTY: Self = Self { frame: 0, mark: 0, since_mark: 0, until_mark: 1, block: Block::EMPTY };

    /// Stands at the innermost frame of a thread state.
    #[inline(always)]
    pub fn start<M: Memory>(&mut self, layout: &Layout, state: u64, memory: &mut M) -> Result<(), Reason> {
        self.frame = 0;
        self.mark = 0;
        self.since_mark = 0;
        self.until_mark = 1;
        let Some(mut frame) = memory.word(state.wrapping_add(layout.state_frame as u64)) else {
            return Err(Reason::ThreadStateUnreadable);
        };
        if layout.inner_frame != NO_OFFSET && frame != 0 {
            match memory.word(frame.wrapping_add(layout.inner_frame as u64)) {
                Some(inner) => frame = inner,
                None => return Err(Reason::ThreadStateUnreadable),
            }
        }
        self.frame = frame;
        Ok(())
    }

    /// One frame: two reads, and two more for a thread's own copy of the code. After an end, all steps give the same.
    #[inline(always)]
    pub fn step<M: Memory>(&mut self, layout: &Layout, memory: &mut M) -> Step {
        match self.try_step(layout, memory) {
            Ok(step) => step,
            Err(reason) => Step::End(reason),
        }
    }

    #[inline(always)]
    fn try_step<M: Memory>(&mut self, layout: &Layout, memory: &mut M) -> Result<Step, Reason> {
        let at = self.frame;
        if at == 0 {
            return Err(Reason::Root);
        }
        if !at.is_multiple_of(8) || at < FRAME_ADDRESS_MIN {
            return Err(Reason::FrameMisplaced);
        }
        self.check_ring(at)?;
        let bytes = (layout.frame_bytes as u32).min(BLOCK_BYTES_MAX as u32);
        memory.read(at, bytes, &mut self.block).ok_or(Reason::FrameUnreadable)?;
        let back = self.block.word(layout.frame_back);
        let code = self.block.word(layout.frame_code) & !TAG_BITS;
        let instruction = match layout.instruction {
            INSTRUCTION_BYTES | INSTRUCTION_UNITS => self.block.half(layout.frame_instruction) as u64,
            _ => self.block.word(layout.frame_instruction),
        };
        let entry = self.block.byte(layout.frame_entry);
        let copy = if layout.frame_tlbc == NO_OFFSET { 0 } else { self.block.half(layout.frame_tlbc) };
        if layout.entry == ENTRY_OWNER && entry >= OWNER_ENTRY_MIN {
            self.frame = back;
            return Ok(Step::Entry(at));
        }
        let (checksum, is_own) = self.read_code(layout, code, memory)?;
        self.frame = back;
        if is_own {
            return Ok(Step::Own);
        }
        let instruction = match layout.instruction {
            INSTRUCTION_BYTES => bounded(instruction as i32, 1),
            INSTRUCTION_UNITS => bounded(instruction as i32, UNIT_BYTES),
            _ => pointed(layout, code, copy, instruction, memory),
        };
        let frame = Frame { code, instruction, checksum };
        match layout.entry {
            ENTRY_EACH => Ok(Step::Last(frame)),
            ENTRY_FLAG if entry != 0 => Ok(Step::Last(frame)),
            _ => Ok(Step::Frame(frame)),
        }
    }

    /// Brent's way to find a ring: whatever its length, it is left within three times as many steps.
    #[inline(always)]
    fn check_ring(&mut self, at: u64) -> Result<(), Reason> {
        if at == self.mark {
            return Err(Reason::Ring);
        }
        self.since_mark = self.since_mark.wrapping_add(1);
        if self.since_mark >= self.until_mark {
            self.since_mark = 0;
            self.until_mark = self.until_mark.wrapping_mul(2);
            self.mark = at;
        }
        Ok(())
    }

    /// The checksum of a code object, and whether it is the interpreter's own.
    #[inline(always)]
    fn read_code<M: Memory>(
        &mut self,
        layout: &Layout,
        code: u64,
        memory: &mut M,
    ) -> Result<(u32, bool), Reason> {
        if code < FRAME_ADDRESS_MIN {
            return Err(Reason::NotCode);
        }
        let head = layout.code_head;
        let bytes = (layout.code_bytes as u32).min(BLOCK_BYTES_MAX as u32);
        memory.read(code.wrapping_add(head as u64), bytes, &mut self.block).ok_or(Reason::CodeUnreadable)?;
        if self.block.word(0) != layout.code_type {
            return Err(Reason::NotCode);
        }
        let block = &self.block;
        let identity = Identity {
            argcount: block.half(layout.code_argcount.wrapping_sub(head)),
            kwonly: block.half(layout.code_kwonly.wrapping_sub(head)),
            flags: block.half(layout.code_flags.wrapping_sub(head)),
            firstlineno: block.half(layout.code_firstlineno.wrapping_sub(head)),
            name: block.word(layout.code_name.wrapping_sub(head)),
            linetable: block.word(layout.code_linetable.wrapping_sub(head)),
        };
        // 3.12 has no flag for `_Py_InitCleanup`: it has no line, and one string is its name and its file.
        let filename = block.word(layout.code_filename.wrapping_sub(head));
        let is_unplaced = identity.firstlineno == 0 && filename == identity.name;
        let is_own = layout.entry == ENTRY_OWNER && (is_unplaced || identity.flags & FLAG_OWN != 0);
        Ok((checksum(&identity), is_own))
    }
}

/// An index of an instruction as bytes; -1 stands for a frame that has not begun.
#[inline(always)]
fn bounded(index: i32, unit_bytes: u32) -> u32 {
    if index < 0 || index as u64 * unit_bytes as u64 >= CODE_BYTES_MAX {
        return INSTRUCTION_UNKNOWN;
    }
    index as u32 * unit_bytes
}

/// A pointer to an instruction as bytes from the code's begin.
#[inline(always)]
fn pointed<M: Memory>(layout: &Layout, code: u64, copy: u32, pointer: u64, memory: &mut M) -> u32 {
    let start = match copy {
        0 => code.wrapping_add(layout.code_start as u64),
        _ => match copied_code(layout, code, copy, memory) {
            Some(start) => start,
            None => return INSTRUCTION_UNKNOWN,
        },
    };
    let bytes = pointer.wrapping_sub(start);
    if bytes >= CODE_BYTES_MAX { INSTRUCTION_UNKNOWN } else { bytes as u32 }
}

/// Where a thread's own copy of the code begins.
#[inline(always)]
fn copied_code<M: Memory>(layout: &Layout, code: u64, copy: u32, memory: &mut M) -> Option<u64> {
    if copy >= COPIES_MAX {
        return None;
    }
    let copies = memory.word(code.wrapping_add(layout.code_tlbc as u64))?;
    memory.word(copies.wrapping_add(COPIES_AT + copy as u64 * 8))
}

#[cfg(test)]
mod tests;
