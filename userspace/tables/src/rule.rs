//! One row of call frame information as a rule.

use abi::{
    CFA_DEREF, CFA_PLT, CFA_REGISTER, CFA_SIGNAL, FP_AT_CFA, FP_AT_FP, FP_SAME, FP_UNDEFINED, RA_ABOVE_FP,
    RA_AT_CFA, RA_BELOW_CFA, RA_IN_LR, Rule,
};
use gimli::{CfaRule, RegisterRule, UnwindExpression};

use crate::elf::Machine;
use crate::expression::{Meaning, meaning};

/// DWARF numbers of a machine's registers.
pub(crate) const X86_64_RBP: u16 = 6;
pub(crate) const X86_64_RSP: u16 = 7;
pub(crate) const AARCH64_FP: u16 = 29;
pub(crate) const AARCH64_SP: u16 = 31;
/// `uc_mcontext.gregs[REG_RSP]` and `[REG_RIP]` in a ucontext (arch/x86/include/uapi/asm/sigcontext.h).
const X86_64_UCONTEXT_SP: i64 = 160;
const X86_64_UCONTEXT_PC: i64 = 168;
/// From sp to the ucontext in arm64's `struct rt_sigframe`: past its siginfo (arch/arm64/kernel/signal.c).
pub(crate) const AARCH64_UCONTEXT: i32 = 128;
/// From which byte of each 16 on [`CFA_PLT`] has 8 bytes more.
const PLT_PUSHED_FROM: u8 = 11;

/// One row's parts.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub(crate) cfa: &'a CfaRule<usize>,
    pub(crate) fp: Option<RegisterRule<usize>>,
    pub(crate) ra: Option<RegisterRule<usize>>,
    pub(crate) is_signal: bool,
}

/// What a row means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meant {
    Rule(Rule),
    /// Lazy-binding stubs that push from another byte on than [`CFA_PLT`] says: two rows for each 16 bytes.
    Stubs {
        pushed_from: u8,
    },
}

impl Row<'_> {
    /// The row's rule; `section` is what expressions point into.
    pub(crate) fn meant(&self, machine: Machine, section: &[u8]) -> Meant {
        if matches!(self.ra, Some(RegisterRule::Undefined)) {
            return Meant::Rule(Rule::STOP);
        }
        if self.is_signal
            && let Some(offset) = self.signal(machine, section)
        {
            return Meant::Rule(Rule::of(CFA_SIGNAL, sp(machine), FP_SAME, RA_BELOW_CFA, 0, offset));
        }
        let (cfa, register, cfa_offset) = match self.cfa {
            CfaRule::RegisterAndOffset { register, offset } => {
                (CFA_REGISTER, register.0, i32::try_from(*offset).ok())
            }
            CfaRule::Expression(expression) => match understood(expression, section) {
                Some(Meaning::Register { register, offset }) => {
                    (CFA_REGISTER, register, i32::try_from(offset).ok())
                }
                Some(Meaning::Word { register, offset, add }) => (CFA_DEREF, register, deref(offset, add)),
                Some(Meaning::Plt { pushed_from: PLT_PUSHED_FROM }) => (CFA_PLT, X86_64_RSP, Some(8)),
                Some(Meaning::Plt { pushed_from }) => return Meant::Stubs { pushed_from },
                None => return Meant::Rule(Rule::UNSUPPORTED),
            },
        };
        let (Some(cfa_offset), true) = (cfa_offset, register <= AARCH64_SP) else {
            return Meant::Rule(Rule::UNSUPPORTED);
        };
        let Some((fp, ra, words)) = self.saved(machine, section) else {
            return Meant::Rule(Rule::UNSUPPORTED);
        };
        Meant::Rule(Rule::of(cfa, register, fp, ra, words, cfa_offset))
    }

    /// Where the frame pointer and the return address are: `FP_*`, `RA_*`, words.
    fn saved(&self, machine: Machine, section: &[u8]) -> Option<(u16, u16, i16)> {
        let (fp, words) = match &self.fp {
            None | Some(RegisterRule::SameValue) => (FP_SAME, 0),
            Some(RegisterRule::Offset(offset)) => {
                words(*offset).map_or((FP_UNDEFINED, 0), |at| (FP_AT_CFA, at))
            }
            Some(RegisterRule::Expression(expression)) => match understood(expression, section) {
                Some(Meaning::Register { register, offset }) if register == fp(machine) => {
                    words(offset).map_or((FP_UNDEFINED, 0), |at| (FP_AT_FP, at))
                }
                _ => (FP_UNDEFINED, 0),
            },
            Some(_) => (FP_UNDEFINED, 0),
        };
        match (machine, &self.ra) {
            (Machine::X86_64, Some(RegisterRule::Offset(-8))) => Some((fp, RA_BELOW_CFA, words)),
            (Machine::X86_64, _) => None,
            (Machine::Aarch64, None | Some(RegisterRule::SameValue)) => Some((fp, RA_IN_LR, words)),
            (Machine::Aarch64, Some(RegisterRule::Offset(offset))) => match (fp, self::words(*offset)?) {
                (FP_AT_CFA, at) if at == words.checked_add(1)? => Some((fp, RA_ABOVE_FP, words)),
                (FP_SAME, at) => Some((fp, RA_AT_CFA, at)),
                _ => None,
            },
            (Machine::Aarch64, Some(_)) => None,
        }
    }

    /// From sp to the ucontext, when this is the frame that the kernel makes for a handler.
    fn signal(&self, machine: Machine, section: &[u8]) -> Option<i32> {
        match machine {
            Machine::Aarch64 => Some(AARCH64_UCONTEXT),
            Machine::X86_64 => {
                let (CfaRule::Expression(cfa), Some(RegisterRule::Expression(ra))) = (self.cfa, &self.ra)
                else {
                    return None;
                };
                let Some(Meaning::Word { register: X86_64_RSP, offset: cfa, add: 0 }) =
                    understood(cfa, section)
                else {
                    return None;
                };
                let Some(Meaning::Register { register: X86_64_RSP, offset: ra }) = understood(ra, section)
                else {
                    return None;
                };
                let ucontext = cfa.checked_sub(X86_64_UCONTEXT_SP)?;
                (ra.checked_sub(ucontext)? == X86_64_UCONTEXT_PC).then(|| i32::try_from(ucontext).ok())?
            }
        }
    }
}

/// The machine's stack pointer.
pub(crate) fn sp(machine: Machine) -> u16 {
    match machine {
        Machine::X86_64 => X86_64_RSP,
        Machine::Aarch64 => AARCH64_SP,
    }
}

/// The machine's frame pointer.
pub(crate) fn fp(machine: Machine) -> u16 {
    match machine {
        Machine::X86_64 => X86_64_RBP,
        Machine::Aarch64 => AARCH64_FP,
    }
}

/// A stub's rule before and after its push.
pub(crate) fn stub(is_pushed: bool) -> Rule {
    Rule::of(CFA_REGISTER, X86_64_RSP, FP_SAME, RA_BELOW_CFA, 0, if is_pushed { 16 } else { 8 })
}

fn understood(expression: &UnwindExpression<usize>, section: &[u8]) -> Option<Meaning> {
    let end = expression.offset.checked_add(expression.length)?;
    meaning(section.get(expression.offset..end)?)
}

fn deref(offset: i64, add: i64) -> Option<i32> {
    if add % 8 != 0 {
        return None;
    }
    Rule::deref_offset(i32::try_from(offset).ok()?, i32::try_from(add / 8).ok()?)
}

fn words(offset_bytes: i64) -> Option<i16> {
    if offset_bytes % 8 != 0 {
        return None;
    }
    i16::try_from(offset_bytes / 8).ok()
}
