//! One function of `.gopclntab` (runtime/runtime2.go, `_func`).

use crate::blocks::Blocks;
use crate::go::Header;

/// Longest name that is compared.
const NAME_BYTES_MAX: usize = 40;
/// `abi.FuncFlagTopFrame`: a traceback ends here.
const FLAG_TOP_FRAME: u8 = 1;
/// `abi.FuncFlagSPWrite`: the stack pointer gets a value that the table does not know.
const FLAG_SP_WRITE: u8 = 2;

/// What unwinding needs of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) kind: Kind,
    /// Where the changes of the stack pointer are in the table; what is no code has none.
    pub(super) pcsp: Option<u64>,
}

/// How a function is unwound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    /// Nothing calls it, or its caller is on a stack that no register leads to.
    Outermost,
    /// It goes over to another stack once it has a frame; the frame pointer still leads to its caller.
    SwitchesStack,
    /// Signal handlers return to it.
    SignalReturn,
}

impl Function {
    /// Reads the function at `place`.
    pub(super) fn read(header: &Header, place: u64, blocks: &mut Blocks<'_>) -> Option<Self> {
        let mut words = [0; 44];
        let after_entry = if header.has_addresses { 8 } else { 4 };
        let id = after_entry + if header.has_start_line { 36 } else { 32 };
        let bytes = words.get_mut(..id + 4)?;
        blocks.read(place, bytes)?;
        let word = |at: usize| Some(u32::from_le_bytes(*words.get(at..)?.first_chunk()?));
        let (name, pcsp) = (word(after_entry)?, word(after_entry + 12)?);
        let (id, flags) = (*words.get(id)?, *words.get(id + 1)?);
        // 1.16 has no flags. Every function that is told by its name has an id or, in assembly, a flag.
        let is_ordinary = id == 0 && flags == 0 && !header.has_addresses;
        let kind = if is_ordinary { Kind::Plain } else { kind(header, name, flags, blocks) };
        let pcsp = header.pctab.checked_add(u64::from(pcsp)).filter(|_| pcsp != 0);
        Some(Self { kind, pcsp })
    }
}

fn kind(header: &Header, name: u32, flags: u8, blocks: &mut Blocks<'_>) -> Kind {
    let mut bytes = [0; NAME_BYTES_MAX];
    let place = header.names.saturating_add(u64::from(name));
    let count = blocks.bytes().saturating_sub(place).min(NAME_BYTES_MAX as u64) as usize;
    let named = bytes.get_mut(..count).is_some_and(|bytes| blocks.read(place, bytes).is_some());
    let name = bytes.split(|byte| *byte == 0).next().filter(|_| named).unwrap_or_default();
    let name = name.strip_suffix(b".abi0").unwrap_or(name);
    match name {
        b"runtime.sigreturn__sigaction" | b"runtime.sigreturn" => return Kind::SignalReturn,
        // Marked as the top, but the code that was interrupted is below it.
        b"runtime.sigtramp" | b"runtime.cgoSigtramp" => return Kind::Plain,
        b"runtime.goexit" | b"runtime.mstart" | b"runtime.rt0_go" | b"runtime.mcall"
        | b"runtime.morestack" | b"runtime.gogo" | b"gogo" => return Kind::Outermost,
        // By name for 1.16; later ones say so by their flags.
        b"runtime.systemstack"
        | b"runtime.asmcgocall"
        | b"runtime.cgocallback"
        | b"runtime.nanotime1"
        | b"runtime.walltime"
        | b"runtime.walltime1" => return Kind::SwitchesStack,
        _ => {}
    }
    if flags & FLAG_TOP_FRAME != 0 || name.starts_with(b"_rt0_") {
        Kind::Outermost
    } else if flags & FLAG_SP_WRITE != 0 {
        Kind::SwitchesStack
    } else {
        Kind::Plain
    }
}

/// A table of changes: pairs of variable-length integers, how much the value changes and for how many bytes of code it
/// then holds (runtime/symtab.go, `step`).
#[derive(Debug)]
pub(super) struct Deltas {
    at: u64,
    value: i32,
    is_first: bool,
}

impl Deltas {
    pub(super) fn new(at: u64) -> Self {
        Self { at, value: -1, is_first: true }
    }

    /// The next value and for how many bytes it holds; `None` at the end.
    pub(super) fn next(&mut self, quantum: u32, blocks: &mut Blocks<'_>) -> Option<(i32, u32)> {
        let change = self.varint(blocks)?;
        if change == 0 && !self.is_first {
            return None;
        }
        self.is_first = false;
        let signed = (change >> 1) as i32 ^ -((change & 1) as i32);
        self.value = self.value.wrapping_add(signed);
        let bytes = self.varint(blocks)?.saturating_mul(quantum);
        Some((self.value, bytes))
    }

    fn varint(&mut self, blocks: &mut Blocks<'_>) -> Option<u32> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let byte = *blocks.at(self.at)?.first()?;
            self.at += 1;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn deltas(bytes: &[u8], quantum: u32) -> Vec<(i32, u32)> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let mut blocks = Blocks::new(&file, bytes.len() as u64, 0, u64::MAX, u64::MAX);
        let mut deltas = Deltas::new(0);
        std::iter::from_fn(|| deltas.next(quantum, &mut blocks)).collect()
    }

    #[test]
    fn a_table_of_changes_begins_below_zero_and_ends_with_no_change() {
        // +1, +8, +16384, -16392 and the end, as runtime.step reads them.
        let table = [2, 1, 16, 4, 0x80, 0x80, 2, 0x80, 1, 0x8f, 0x80, 2, 3, 0, 9, 9];
        assert_eq!(deltas(&table, 1), [(0, 1), (8, 4), (16392, 128), (0, 3)]);
        assert_eq!(deltas(&table, 4), [(0, 4), (8, 16), (16392, 512), (0, 12)]);
        // Nothing changes at once: the table of a function without a known stack pointer.
        assert_eq!(deltas(&[0, 5, 0], 1), [(-1, 5)]);
    }

    #[test]
    fn a_table_that_is_cut_or_has_an_endless_number_ends() {
        assert_eq!(deltas(&[2, 1, 16], 1), [(0, 1)]);
        assert_eq!(deltas(&[0x80; 32], 1), []);
        assert_eq!(deltas(&[], 1), []);
    }
}
