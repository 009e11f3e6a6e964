//! What an unwind row says: where the canonical frame address is, and where the caller's frame pointer and
//! return address are. Eight bytes, the same for x86-64 and aarch64.

/// The frame address is a register plus `cfa_offset`.
pub const CFA_REGISTER: u16 = 0;
/// The word at (register + deref offset), plus deref add: realigned frames, hand-written assembly.
pub const CFA_DEREF: u16 = 1;
/// x86-64's lazy-binding stubs: sp + 8, and 8 more from the 11th byte of each 16 on (`.eh_frame` of `.plt`).
pub const CFA_PLT: u16 = 2;
/// A signal frame: all registers are in the `ucontext` that the kernel pushed, `cfa_offset` bytes above sp.
pub const CFA_SIGNAL: u16 = 3;
/// The thread's first frame: nothing calls it.
pub const CFA_STOP: u16 = 4;
/// The frame pointer is followed: fp + 16, both saved right below.
pub const CFA_FRAME_POINTER: u16 = 5;
/// There are rules, but none that can be followed here.
pub const CFA_UNSUPPORTED: u16 = 6;

/// The caller's frame pointer is what it was.
pub const FP_SAME: u16 = 0;
/// It is at frame address + 8 * `fp_offset_words`.
pub const FP_AT_CFA: u16 = 1;
/// It is at frame pointer + 8 * `fp_offset_words` (DW_CFA_expression in realigned frames).
pub const FP_AT_FP: u16 = 2;
/// It is not known any more.
pub const FP_UNDEFINED: u16 = 3;

/// The return address is at frame address - 8: always so on x86-64.
pub const RA_BELOW_CFA: u16 = 0;
/// It is in the link register.
pub const RA_IN_LR: u16 = 1;
/// It is 8 bytes above the saved frame pointer.
pub const RA_ABOVE_FP: u16 = 2;
/// It is at frame address + 8 * `fp_offset_words`, and the frame pointer is what it was.
pub const RA_AT_CFA: u16 = 3;

/// A rule in 64 bits: two 16-bit halves of a word, then `cfa_offset`.
///
/// | bits | what |
/// |---|---|
/// | 0-2 | one of `CFA_*` |
/// | 3-7 | the base register's DWARF number |
/// | 8-9 | one of `FP_*` |
/// | 10-11 | one of `RA_*` |
/// | 16-31 | `fp_offset_words`, signed |
/// | 32-63 | `cfa_offset`, signed bytes; of [`CFA_DEREF`] the low 24 bits are the offset, the high 8 the words to add |
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Rule {
    pub kinds: u16,
    pub fp_offset_words: i16,
    pub cfa_offset: i32,
}

impl Rule {
    /// The thread's first frame.
    pub const STOP: Self = Self::of(CFA_STOP, 0, FP_SAME, RA_BELOW_CFA, 0, 0);
    /// Follows the frame pointer.
    pub const FRAME_POINTER: Self = Self::of(CFA_FRAME_POINTER, 0, FP_SAME, RA_BELOW_CFA, 0, 0);
    /// Cannot be followed.
    pub const UNSUPPORTED: Self = Self::of(CFA_UNSUPPORTED, 0, FP_SAME, RA_BELOW_CFA, 0, 0);

    /// A rule of its parts.
    pub const fn of(
        cfa: u16,
        register: u16,
        fp: u16,
        ra: u16,
        fp_offset_words: i16,
        cfa_offset: i32,
    ) -> Self {
        Self {
            kinds: cfa & 7 | (register & 31) << 3 | (fp & 3) << 8 | (ra & 3) << 10,
            fp_offset_words,
            cfa_offset,
        }
    }

    /// `cfa_offset` of a [`CFA_DEREF`] rule; `None` when a part does not fit.
    pub const fn deref_offset(offset_bytes: i32, add_words: i32) -> Option<i32> {
        if offset_bytes < -(1 << 23) || offset_bytes >= 1 << 23 || add_words < -128 || add_words > 127 {
            return None;
        }
        Some(add_words << 24 | offset_bytes & 0xff_ffff)
    }

    /// One of `CFA_*`.
    #[inline(always)]
    pub const fn cfa(self) -> u16 {
        self.kinds & 7
    }

    /// DWARF number of the base register.
    #[inline(always)]
    pub const fn register(self) -> u16 {
        self.kinds >> 3 & 31
    }

    /// One of `FP_*`.
    #[inline(always)]
    pub const fn fp(self) -> u16 {
        self.kinds >> 8 & 3
    }

    /// One of `RA_*`.
    #[inline(always)]
    pub const fn ra(self) -> u16 {
        self.kinds >> 10 & 3
    }

    /// Of [`CFA_DEREF`]: bytes from the register to the word that is read, and bytes to add to it.
    #[inline(always)]
    pub const fn deref(self) -> (i64, i64) {
        ((self.cfa_offset << 8 >> 8) as i64, ((self.cfa_offset >> 24) * 8) as i64)
    }

    /// The rule's two words in a page, low half first.
    #[inline(always)]
    pub const fn words(self) -> [u32; 2] {
        [self.kinds as u32 | (self.fp_offset_words as u16 as u32) << 16, self.cfa_offset as u32]
    }

    /// The rule in two words of a page.
    #[inline(always)]
    pub const fn from_words(words: [u32; 2]) -> Self {
        Self { kinds: words[0] as u16, fp_offset_words: (words[0] >> 16) as i16, cfa_offset: words[1] as i32 }
    }
}

const _: () = assert!(size_of::<Rule>() == 8);
const _: () = assert!(matches!(Rule::deref_offset(-8, 1), Some(offset) if offset == 1 << 24 | 0xff_fff8));
