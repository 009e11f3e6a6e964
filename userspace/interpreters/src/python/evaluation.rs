//! Which native code evaluates Python.

use std::collections::HashMap;
use std::ops::Range;

use crate::{Elf, Error, NativeCode, Symbols};

/// What runs Python code since 3.6.
pub(super) const LOOP: &str = "_PyEval_EvalFrameDefault";
/// The rarely used part that GCC moves away, or parts of it.
const COLD: &[u8] = b"_PyEval_EvalFrameDefault.cold";
/// One function for each instruction, where the interpreter was built to call them (3.14 and later).
const INSTRUCTION: &[u8] = b"_TAIL_CALL_";
/// The longest evaluation loop seen has 58 KB.
const LOOP_BYTES_MAX: usize = 1 << 20;
/// Jumps into a moved part, by which it is recognised.
const JUMPS_MIN: usize = 2;

/// The loop, its moved parts, and the functions that it calls for instructions.
pub(super) fn find(elf: &Elf<'_>) -> Result<NativeCode, Error> {
    let main = elf.exported(LOOP).filter(|symbol| symbol.bytes > 0).ok_or(Error::Missing(LOOP))?;
    let main = main.address..main.address.saturating_add(main.bytes);
    let symbols = elf.symbols(Symbols::All, &|name| name.starts_with(COLD) || name.starts_with(INSTRUCTION));
    let mut code = NativeCode { evaluation: vec![main.clone()], parts: Vec::new() };
    for (name, symbol) in symbols {
        let range = symbol.address..symbol.address.saturating_add(symbol.bytes);
        if name.starts_with(COLD) {
            code.evaluation.push(range);
        } else {
            code.parts.push(range);
        }
    }
    if code.evaluation.len() == 1 {
        code.evaluation.extend(moved_part(elf, &main));
    }
    code.evaluation.sort_by_key(|range| range.start);
    code.parts = merged(code.parts);
    Ok(code)
}

/// The function-like piece of code outside the loop that most of its conditional jumps lead to: compilers use those for
/// other functions next to never.
fn moved_part(elf: &Elf<'_>, main: &Range<u64>) -> Option<Range<u64>> {
    let functions = elf.functions();
    let bytes = (main.end - main.start).min(LOOP_BYTES_MAX as u64) as usize;
    let code = elf.up_to(main.start, bytes);
    let mut jumps: HashMap<u64, usize> = HashMap::new();
    for (at, window) in code.windows(6).enumerate() {
        let [0x0f, 0x80..=0x8f, offset @ ..] = window else { continue };
        let offset = i32::from_le_bytes(offset.try_into().ok()?);
        let target = (main.start + at as u64 + 6).wrapping_add_signed(i64::from(offset));
        if main.contains(&target) || !elf.is_code(target) {
            continue;
        }
        let after = functions.partition_point(|start| *start <= target);
        if let Some(start) = after.checked_sub(1).and_then(|index| functions.get(index)) {
            *jumps.entry(*start).or_default() += 1;
        }
    }
    let (start, count) = jumps.into_iter().max_by_key(|(start, count)| (*count, *start))?;
    let end = functions.get(functions.partition_point(|function| *function <= start))?;
    (count >= JUMPS_MIN).then_some(start..*end)
}

/// Ranges in order, neighbours as one: what lies between two is at most the padding before a function.
fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    const PADDING_BYTES_MAX: u64 = 64;
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(PADDING_BYTES_MAX) => {
                last.end = last.end.max(range.end);
            }
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_range() {
        let ranges = [0x300..0x310, 0x100..0x180, 0x190..0x200].to_vec();
        assert_eq!(merged(ranges), [0x100..0x200, 0x300..0x310]);
    }
}
