//! The DWARF expressions that compilers, linkers and assembly put into unwind information.

const DEREF: u8 = 0x06;
const AND: u8 = 0x1a;
const PLUS: u8 = 0x22;
const PLUS_UCONST: u8 = 0x23;
const SHL: u8 = 0x24;
const GE: u8 = 0x2a;
const LIT0: u8 = 0x30;
const LIT31: u8 = 0x4f;
const BREG0: u8 = 0x70;
const BREG31: u8 = 0x8f;

/// An expression by what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Register plus bytes.
    Register { register: u16, offset: i64 },
    /// The word at (register plus bytes), plus bytes.
    Word { register: u16, offset: i64, add: i64 },
    /// Stack pointer plus 8, and 8 more from this byte of each 16 of code on: lazy-binding stubs.
    Plt { pushed_from: u8 },
}

/// What the bytes of an expression mean; `None` for any other expression.
pub(crate) fn meaning(bytes: &[u8]) -> Option<Meaning> {
    let (&operation, rest) = bytes.split_first()?;
    if !(BREG0..=BREG31).contains(&operation) {
        return None;
    }
    let register = u16::from(operation - BREG0);
    let (offset, rest) = sleb128(rest)?;
    match *rest {
        [] => Some(Meaning::Register { register, offset }),
        [DEREF] => Some(Meaning::Word { register, offset, add: 0 }),
        [DEREF, lit @ LIT0..=LIT31, PLUS] => {
            Some(Meaning::Word { register, offset, add: i64::from(lit - LIT0) })
        }
        [DEREF, PLUS_UCONST, ref add @ ..] => match uleb128(add)? {
            (add, []) => Some(Meaning::Word { register, offset, add: i64::try_from(add).ok()? }),
            _ => None,
        },
        // breg7 8; breg16 0; lit15; and; litN; ge; lit3; shl; plus (elf_x86_64_eh_frame_lazy_plt of binutils).
        [0x80, 0, 0x3f, AND, lit @ LIT0..=0x3f, GE, 0x33, SHL, PLUS] if register == 7 && offset == 8 => {
            Some(Meaning::Plt { pushed_from: lit - LIT0 })
        }
        _ => None,
    }
}

/// DWARF 5, section 7.6.
fn sleb128(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut value = 0i64;
    for (index, &byte) in bytes.iter().enumerate().take(9) {
        let shift = 7 * index as u32;
        value |= i64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let unused = 64 - (shift + 7);
            return Some((value << unused >> unused, bytes.get(index + 1..)?));
        }
    }
    None
}

fn uleb128(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().enumerate().take(9) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(index + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expressions_of_toolchains_are_understood() {
        let plt = [0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22];
        assert_eq!(meaning(&plt), Some(Meaning::Plt { pushed_from: 11 }));
        // breg6 -8; deref
        let realigned = Meaning::Word { register: 6, offset: -8, add: 0 };
        assert_eq!(meaning(&[0x76, 0x78, 6]), Some(realigned));
        // breg7 160; deref
        let signal = Meaning::Word { register: 7, offset: 160, add: 0 };
        assert_eq!(meaning(&[0x77, 0xa0, 1, 6]), Some(signal));
        let added = Meaning::Word { register: 7, offset: 24, add: 8 };
        assert_eq!(meaning(&[0x77, 24, 6, 0x23, 8]), Some(added));
        assert_eq!(meaning(&[0x77, 24, 6, 0x38, 0x22]), Some(added));
        assert_eq!(meaning(&[0x76, 0x70]), Some(Meaning::Register { register: 6, offset: -16 }));
    }

    #[test]
    fn any_other_expression_is_refused() {
        for bytes in [&[][..], &[0x76], &[0x76, 0x80], &[0x76, 0, 6, 6], &[0x30], &[0x77, 8, 6, 0x23, 0x80]] {
            assert_eq!(meaning(bytes), None, "{bytes:x?}");
        }
        let endless = [0xff; 32];
        assert_eq!(sleb128(&endless), None);
        assert_eq!(uleb128(&endless), None);
    }
}
