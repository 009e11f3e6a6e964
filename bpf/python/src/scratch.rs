//! Bytes of a struct in another address space, read at once and taken apart at offsets known only at run time.

use crate::layout::BLOCK_BYTES_MAX;

const WORDS: usize = BLOCK_BYTES_MAX / 8;

/// Room for one struct. Indices are masked, so that offsets of any value stay inside; the kernel's verifier and the
/// compiler both see that.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Block {
    words: [u64; WORDS],
}

impl Block {
    /// Room without content.
    pub const EMPTY: Self = Self { words: [0; WORDS] };

    /// Where a reader puts the bytes.
    #[inline(always)]
    pub fn words_mut(&mut self) -> &mut [u64; WORDS] {
        &mut self.words
    }

    /// The aligned word that holds a byte offset.
    #[inline(always)]
    pub(crate) fn word(&self, offset: u16) -> u64 {
        // SAFETY: the mask keeps the index inside the array, whose length is a power of two.
        unsafe { *self.words.get_unchecked((offset as usize >> 3) & (WORDS - 1)) }
    }

    /// Four bytes at an offset divisible by four.
    #[inline(always)]
    pub(crate) fn half(&self, offset: u16) -> u32 {
        (self.word(offset) >> ((offset as u32 & 4) * 8)) as u32
    }

    #[inline(always)]
    pub(crate) fn byte(&self, offset: u16) -> u8 {
        (self.word(offset) >> ((offset as u32 & 7) * 8)) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_words_are_taken_at_any_offset_and_none_reaches_outside() {
        let mut block = Block::EMPTY;
        block.words_mut()[2] = 0x1122_3344_5566_7788;
        assert_eq!(block.word(16), 0x1122_3344_5566_7788);
        assert_eq!((block.half(16), block.half(20)), (0x5566_7788, 0x1122_3344));
        assert_eq!((block.byte(16), block.byte(23)), (0x88, 0x11));
        assert_eq!(block.word(BLOCK_BYTES_MAX as u16 + 16), block.word(16));
        assert_eq!(block.byte(u16::MAX), 0);
    }
}
