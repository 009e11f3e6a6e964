//! An address space made of a few words, mappings and rules.

use std::collections::BTreeMap;

use abi::{End, GENERAL_REGISTERS, MAPPING_FILE, Mapping, Registers, Rule};

use crate::{Arch, Found, Space, Step, Walk};

/// Where the code of the fake lies; its file offset is `CODE_OFFSET`, its slot `SLOT`.
pub(crate) const CODE: u64 = 0x40_0000;
pub(crate) const CODE_BYTES: u64 = 0x1_0000;
pub(crate) const CODE_OFFSET: u32 = 0x1000;
pub(crate) const SLOT: u32 = 7;
/// Where its stack lies.
pub(crate) const STACK: u64 = 0x7fff_0000;
/// A place in the code, and a return address into it.
pub(crate) const PC: u64 = CODE + 0x120;
pub(crate) const RETURN: u64 = CODE + 0x250;

#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) words: BTreeMap<u64, u64>,
    pub(crate) mappings: Vec<Mapping>,
    /// By file offset; other places have `otherwise`.
    pub(crate) rules: BTreeMap<u32, Found>,
    pub(crate) otherwise: Found,
    pub(crate) word_end: End,
    pub(crate) stack_start: u64,
}

impl Fake {
    /// One mapping of a file, where `found` holds everywhere.
    pub(crate) fn new(found: Found) -> Self {
        let mapping = Mapping {
            start: CODE,
            end: CODE + CODE_BYTES,
            file_offset: CODE_OFFSET,
            executable: SLOT,
            kind: MAPPING_FILE,
            reserved: 0,
        };
        Self {
            words: BTreeMap::new(),
            mappings: vec![mapping],
            rules: BTreeMap::new(),
            otherwise: found,
            word_end: End::MemoryUnreadable,
            stack_start: 0,
        }
    }

    pub(crate) fn with(mut self, words: &[(u64, u64)]) -> Self {
        self.words.extend(words.iter().copied());
        self
    }
}

impl Space for Fake {
    fn word(&mut self, address: u64) -> Option<u64> {
        self.words.get(&address).copied()
    }

    fn word_end(&self) -> End {
        self.word_end
    }

    fn stack_start(&mut self) -> u64 {
        self.stack_start
    }

    fn mapping(&mut self, address: u64) -> Option<Mapping> {
        self.mappings.iter().find(|mapping| mapping.start <= address && address < mapping.end).copied()
    }

    fn rule(&mut self, executable: u32, file_offset: u32) -> Found {
        assert_eq!(executable, SLOT);
        self.rules.get(&file_offset).copied().unwrap_or(self.otherwise)
    }
}

/// The frame of an address in the fake's code.
pub(crate) fn frame(address: u64) -> u64 {
    abi::file_frame(SLOT, (address - CODE) as u32 + CODE_OFFSET)
}

/// At `PC`, the stack pointer at `STACK`, the frame pointer at `fp`; the others hold their own number.
pub(crate) fn registers<A: Arch>(fp: u64) -> Registers {
    let mut general: [u64; GENERAL_REGISTERS] = core::array::from_fn(|number| number as u64);
    general[A::SP] = STACK;
    general[A::FP] = fp;
    Registers { pc: PC, general }
}

/// One step by this rule from [`registers`]: what came, and the walk behind it.
pub(crate) fn one_step<A: Arch>(rule: Rule, fp: u64, words: &[(u64, u64)]) -> (Step, Walk) {
    let mut space = Fake::new(Found::Rule(rule)).with(words);
    let mut walk = Walk::start::<A>(registers::<A>(fp));
    (walk.step::<A, _>(&mut space), walk)
}
