//! Where the structs of one interpreter keep what a walk needs, and where one process keeps its thread states.

/// Steps from the thread pointer to the thread state.
pub const HOPS_MAX: usize = 3;

/// Bytes of a struct that are read at once, a power of two: the largest is the code object of a free-threaded build,
/// 136 bytes from its type to its line table.
pub const BLOCK_BYTES_MAX: usize = 256;

/// An offset that this version does not have.
pub const NO_OFFSET: u16 = u16::MAX;

/// Bytes of an instruction since 3.6 ("wordcode").
pub const UNIT_BYTES: u32 = 2;

/// Bits of a reference that are no part of an address (`Py_TAG_BITS`, since 3.14). No object's address has them in any
/// version.
pub const TAG_BITS: u64 = 3;

/// `frame->owner` from which on a frame is none of Python's: `FRAME_OWNED_BY_CSTACK` of 3.12 and 3.13,
/// `FRAME_OWNED_BY_INTERPRETER` of 3.14 and later.
pub const OWNER_ENTRY_MIN: u8 = 3;

/// [`Layout::entry`]: each frame has one native frame of the evaluation loop (up to 3.10).
pub const ENTRY_EACH: u8 = 1;
/// [`Layout::entry`]: the frame that a native one entered with says so in a byte of its own (3.11).
pub const ENTRY_FLAG: u8 = 2;
/// [`Layout::entry`]: an extra frame that runs nothing stands above it (3.12 and later).
pub const ENTRY_OWNER: u8 = 3;

/// [`Layout::instruction`]: `f_lasti`, bytes (up to 3.9).
pub const INSTRUCTION_BYTES: u8 = 1;
/// [`Layout::instruction`]: `f_lasti`, units of [`UNIT_BYTES`] (3.10).
pub const INSTRUCTION_UNITS: u8 = 2;
/// [`Layout::instruction`]: a pointer into the code object (3.11 and later).
pub const INSTRUCTION_POINTER: u8 = 3;

/// How a thread state is found: from the thread pointer on, each step adds an offset and reads a word.
///
/// One step reads a word of static thread-local storage, or of glibc's first 32 thread-specific values. Two lead
/// through musl's table of those, or glibc's further blocks. Three lead through the vector of dynamically loaded
/// modules' storage.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Source {
    /// 0: there is no such source.
    pub hops: u32,
    pub offsets: [i32; HOPS_MAX],
}

/// One process' interpreter. Offsets are bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Layout {
    /// What the thread runs now; empty while it has given up the interpreter's lock (3.12 and later).
    pub current: Source,
    /// What the thread last bound (`autoTSSkey`); asked when `current` gives none.
    pub bound: Source,
    /// Address of `PyCode_Type`: what is not of this type is not taken for a code object.
    pub code_type: u64,
    /// In the thread state: the frame, or a struct that has it at `inner_frame`.
    pub state_frame: u16,
    /// [`NO_OFFSET`] unless `state_frame` leads to a struct (`cframe`, 3.11 and 3.12).
    pub inner_frame: u16,
    /// Bytes from a frame's begin that are read.
    pub frame_bytes: u16,
    pub frame_code: u16,
    pub frame_back: u16,
    pub frame_instruction: u16,
    /// `is_entry` or `owner`, a byte.
    pub frame_entry: u16,
    /// `tlbc_index`: which copy of the code the thread runs (free-threaded, 3.14 and later).
    pub frame_tlbc: u16,
    /// In a code object: where the block begins that is read of it, with `ob_type`.
    pub code_head: u16,
    /// Bytes of that block.
    pub code_bytes: u16,
    pub code_argcount: u16,
    pub code_kwonly: u16,
    pub code_flags: u16,
    pub code_firstlineno: u16,
    pub code_name: u16,
    /// `co_lnotab` or `co_linetable`.
    pub code_linetable: u16,
    /// `co_code_adaptive`, from where instruction pointers count.
    pub code_start: u16,
    /// `co_tlbc`: the copies of the code.
    pub code_tlbc: u16,
    /// One of `ENTRY_*`.
    pub entry: u8,
    /// One of `INSTRUCTION_*`.
    pub instruction: u8,
    pub code_filename: u16,
}

const _: () = assert!(size_of::<Source>() == 16);
const _: () = assert!(size_of::<Layout>() == 80);
const _: () = assert!(BLOCK_BYTES_MAX.is_power_of_two());
