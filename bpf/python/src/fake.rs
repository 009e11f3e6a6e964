//! Memory made of words, for tests.

use std::collections::HashMap;

use crate::{Block, Memory};

/// Words at addresses divisible by eight; the rest cannot be read.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    words: HashMap<u64, u64>,
    /// Reads so far.
    pub(crate) reads: usize,
}

impl Fake {
    pub(crate) fn put(&mut self, address: u64, word: u64) {
        assert!(address.is_multiple_of(8));
        self.words.insert(address, word);
    }

    pub(crate) fn put_half(&mut self, address: u64, half: u32) {
        let shift = (address & 4) * 8;
        let word = self.words.entry(address & !7).or_default();
        *word = *word & !(0xffff_ffff << shift) | u64::from(half) << shift;
    }

    pub(crate) fn put_byte(&mut self, address: u64, byte: u8) {
        let shift = (address & 7) * 8;
        let word = self.words.entry(address & !7).or_default();
        *word = *word & !(0xff << shift) | u64::from(byte) << shift;
    }

    /// Makes `bytes` bytes readable, as zeros where nothing was put.
    pub(crate) fn map(&mut self, address: u64, bytes: u64) {
        for at in (address..address + bytes).step_by(8) {
            self.words.entry(at).or_default();
        }
    }
}

impl Memory for Fake {
    fn word(&mut self, address: u64) -> Option<u64> {
        self.reads += 1;
        self.words.get(&address).copied()
    }

    fn read(&mut self, address: u64, bytes: u32, into: &mut Block) -> Option<()> {
        self.reads += 1;
        for index in 0..bytes.div_ceil(8) {
            let at = address.checked_add(u64::from(index) * 8)?;
            into.words_mut()[index as usize] = *self.words.get(&at)?;
        }
        Some(())
    }
}
