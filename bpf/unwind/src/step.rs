//! One rule applied: from a frame's registers to its caller's.

use abi::{
    CFA_DEREF, CFA_FRAME_POINTER, CFA_PLT, CFA_REGISTER, CFA_SIGNAL, CFA_STOP, End, FP_AT_CFA, FP_AT_FP,
    FP_SAME, FP_UNDEFINED, GENERAL_REGISTERS, RA_ABOVE_FP, RA_BELOW_CFA, RA_IN_LR, Registers, Rule,
};

use crate::{Arch, Space, Walk};

const WORD_BYTES: i64 = 8;
/// Of each 16 bytes of a lazy-binding stub, the 11th is the first behind its push (`.eh_frame` of `.plt`).
const STUB_BYTES: u64 = 16;
const STUB_PUSHED_BYTES: u64 = 11;

const _: () = assert!(GENERAL_REGISTERS.is_power_of_two());

/// Moves `walk` to the caller. The reason when it cannot: [`End::Root`] when there is no caller; `lost` when the
/// frame pointer is none, where it is followed for want of a rule (`None`: a table's rule says so).
#[inline(always)]
pub(crate) fn apply<A: Arch, S: Space>(
    walk: &mut Walk,
    rule: Rule,
    lost: Option<End>,
    space: &mut S,
) -> Result<(), End> {
    let sp = walk.registers.general[A::SP];
    let rule = match rule.cfa() {
        CFA_REGISTER | CFA_DEREF => rule,
        CFA_PLT => stub_rule::<A>(walk.registers.pc),
        CFA_FRAME_POINTER => {
            check_frame_pointer::<A>(walk, lost)?;
            Rule::of(CFA_REGISTER, A::FP as u16, FP_AT_CFA, RA_BELOW_CFA, -2, 16)
        }
        CFA_SIGNAL => return restore::<A, S>(walk, offset(sp, i64::from(rule.cfa_offset)), space),
        CFA_STOP => return Err(End::Root),
        _ => return Err(End::RuleUnsupported),
    };
    let cfa = frame_address(walk, rule, space)?;
    // A function that pushes nothing leaves its caller's stack pointer; it calls nobody, so it was interrupted.
    let is_leaf = cfa == sp && rule.ra() == RA_IN_LR && walk.is_return == 0;
    // Code that runs on another stack than its caller finds it by the frame pointer (Go's systemstack), and its
    // table says so.
    let changes_stack = rule.register() == A::FP as u16 && rule.cfa() == CFA_REGISTER && lost.is_none();
    if cfa <= sp && !is_leaf && !changes_stack {
        return Err(End::NoProgress);
    }
    go_on::<A, S>(walk, rule, cfa, space)
}

/// The stub's rule at this place: the second instruction pushes a word.
#[inline(always)]
fn stub_rule<A: Arch>(pc: u64) -> Rule {
    let pushed = i32::from(pc % STUB_BYTES >= STUB_PUSHED_BYTES);
    Rule::of(CFA_REGISTER, A::SP as u16, FP_SAME, RA_BELOW_CFA, 0, 8 + 8 * pushed)
}

/// Whether the frame pointer can point to a frame; 0 is what a thread starts with.
#[inline(always)]
fn check_frame_pointer<A: Arch>(walk: &Walk, lost: Option<End>) -> Result<(), End> {
    let fp = walk.registers.general[A::FP];
    if walk.known >> A::FP & 1 == 0 {
        return Err(lost.unwrap_or(End::RegisterUnknown));
    }
    if fp == 0 {
        return Err(End::Root);
    }
    if !fp.is_multiple_of(WORD_BYTES as u64) || (fp < walk.registers.general[A::SP] && lost.is_some()) {
        return Err(lost.unwrap_or(End::NoProgress));
    }
    Ok(())
}

#[inline(always)]
fn frame_address<S: Space>(walk: &Walk, rule: Rule, space: &mut S) -> Result<u64, End> {
    let base = register(&walk.registers, walk.known, rule.register())?;
    if rule.cfa() == CFA_DEREF {
        let (read_at, add) = rule.deref();
        return Ok(offset(word(space, offset(base, read_at))?, add));
    }
    Ok(offset(base, i64::from(rule.cfa_offset)))
}

/// Takes the return address and the frame pointer from where the rule says, then writes the caller's registers.
#[inline(always)]
fn go_on<A: Arch, S: Space>(walk: &mut Walk, rule: Rule, cfa: u64, space: &mut S) -> Result<(), End> {
    let fp_kind = rule.fp();
    let from = if fp_kind == FP_AT_FP { register(&walk.registers, walk.known, A::FP as u16)? } else { cfa };
    let saved = offset(from, i64::from(rule.fp_offset_words) * WORD_BYTES);
    let ra = match (rule.ra(), A::LR) {
        (RA_IN_LR, None) => return Err(End::RuleUnsupported),
        (RA_IN_LR, Some(lr)) => register(&walk.registers, walk.known, lr as u16)?,
        (RA_BELOW_CFA, _) => word(space, offset(cfa, -WORD_BYTES))?,
        (RA_ABOVE_FP, _) => word(space, offset(saved, WORD_BYTES))?,
        (_, _) => word(space, saved)?,
    } & A::ADDRESS_BITS;
    if ra == 0 {
        return Err(End::Root);
    }
    let mut known = walk.known & 1 << A::FP;
    if fp_kind == FP_AT_CFA || fp_kind == FP_AT_FP {
        walk.registers.general[A::FP] = word(space, saved)?;
        known = 1 << A::FP;
    } else if fp_kind == FP_UNDEFINED {
        known = 0;
    }
    walk.registers.general[A::SP] = cfa;
    walk.registers.pc = ra;
    walk.known = known | 1 << A::SP;
    walk.is_return = 1;
    Ok(())
}

/// From a signal frame to what the signal interrupted, possibly on another stack.
#[inline(always)]
fn restore<A: Arch, S: Space>(walk: &mut Walk, ucontext: u64, space: &mut S) -> Result<(), End> {
    if A::restore(space, ucontext, &mut walk.registers).is_none() {
        return Err(space.word_end());
    }
    walk.known = A::REGISTERS;
    walk.is_return = 0;
    Ok(())
}

#[inline(always)]
fn register(registers: &Registers, known: u32, number: u16) -> Result<u64, End> {
    let number = number as usize & (GENERAL_REGISTERS - 1);
    if known >> number & 1 == 0 {
        return Err(End::RegisterUnknown);
    }
    // SAFETY: the mask keeps the index inside the array, whose length is a power of two.
    Ok(unsafe { *registers.general.get_unchecked(number) })
}

#[inline(always)]
fn word<S: Space>(space: &mut S, address: u64) -> Result<u64, End> {
    match space.word(address) {
        Some(word) => Ok(word),
        None => Err(space.word_end()),
    }
}

#[inline(always)]
fn offset(address: u64, bytes: i64) -> u64 {
    address.wrapping_add_signed(bytes)
}

#[cfg(test)]
mod tests {
    use abi::{CFA_UNSUPPORTED, RA_AT_CFA};

    use super::*;
    use crate::fake::{Fake, PC, RETURN, STACK, frame, one_step, registers};
    use crate::{Aarch64, Found, Step, X86_64};

    const FP: u64 = STACK + 0x40;
    const CALLER_FP: u64 = STACK + 0x100;

    fn x86(rule: Rule, words: &[(u64, u64)]) -> (Step, Walk) {
        one_step::<X86_64>(rule, FP, words)
    }

    fn arm(rule: Rule, words: &[(u64, u64)]) -> (Step, Walk) {
        one_step::<Aarch64>(rule, FP, words)
    }

    /// The caller's (pc, sp, fp if it is known), after a step that found one.
    fn caller<A: Arch>((step, walk): (Step, Walk)) -> (u64, u64, Option<u64>) {
        assert_eq!(step, Step::Frame(frame(PC)));
        assert_eq!(walk.is_return, 1);
        assert_eq!(walk.known & !(1 << A::FP), 1 << A::SP, "a call keeps no other register");
        let fp = (walk.known >> A::FP & 1 == 1).then_some(walk.registers.general[A::FP]);
        (walk.registers.pc, walk.registers.general[A::SP], fp)
    }

    fn ended(end: End) -> Step {
        Step::Last(frame(PC), end)
    }

    #[test]
    fn the_frame_address_is_a_register_and_an_offset() {
        let by_sp = Rule::of(CFA_REGISTER, 7, FP_SAME, RA_BELOW_CFA, 0, 32);
        assert_eq!(caller::<X86_64>(x86(by_sp, &[(STACK + 24, RETURN)])), (RETURN, STACK + 32, Some(FP)));
        let by_fp = Rule::of(CFA_REGISTER, 6, FP_AT_CFA, RA_BELOW_CFA, -2, 16);
        let words = [(FP + 8, RETURN), (FP, CALLER_FP)];
        assert_eq!(caller::<X86_64>(x86(by_fp, &words)), (RETURN, FP + 16, Some(CALLER_FP)));
    }

    #[test]
    fn an_interrupted_frame_may_be_based_on_any_register_and_a_later_one_may_not() {
        let rule = Rule::of(CFA_REGISTER, 10, FP_SAME, RA_BELOW_CFA, 0, 0);
        let mut registers = registers::<X86_64>(FP);
        registers.general[10] = STACK + 64;
        let mut space = Fake::new(Found::Rule(rule)).with(&[(STACK + 56, RETURN)]);
        let mut walk = Walk::start::<X86_64>(registers);
        assert_eq!(walk.step::<X86_64, _>(&mut space), Step::Frame(frame(PC)));
        assert_eq!(walk.step::<X86_64, _>(&mut space), Step::Last(frame(RETURN - 1), End::RegisterUnknown));
        // x86-64 has no register 16 and more.
        let none = Rule::of(CFA_REGISTER, 16, FP_SAME, RA_BELOW_CFA, 0, 8);
        assert_eq!(x86(none, &[(STACK, RETURN)]).0, ended(End::RegisterUnknown));
    }

    #[test]
    fn a_realigned_frame_is_read_from_the_stack() {
        let offset = Rule::deref_offset(-8, 2).unwrap();
        let rule = Rule::of(CFA_DEREF, 6, FP_AT_FP, RA_BELOW_CFA, 0, offset);
        let words = [(FP - 8, STACK + 0x80), (STACK + 0x88, RETURN), (FP, CALLER_FP)];
        assert_eq!(caller::<X86_64>(x86(rule, &words)), (RETURN, STACK + 0x90, Some(CALLER_FP)));
        assert_eq!(x86(rule, &words[1..]).0, ended(End::MemoryUnreadable));
    }

    #[test]
    fn a_lazy_binding_stub_pushes_its_word_in_the_eleventh_byte() {
        let rule = Rule::of(CFA_PLT, 7, FP_SAME, RA_BELOW_CFA, 0, 8);
        for (pc, cfa) in [(PC & !15, STACK + 8), (PC & !15 | 10, STACK + 8), (PC & !15 | 11, STACK + 16)] {
            let mut registers = registers::<X86_64>(FP);
            registers.pc = pc;
            let mut space = Fake::new(Found::Rule(rule)).with(&[(cfa - 8, RETURN)]);
            let mut walk = Walk::start::<X86_64>(registers);
            assert_eq!(walk.step::<X86_64, _>(&mut space), Step::Frame(frame(pc)));
            assert_eq!((walk.registers.pc, walk.registers.general[X86_64::SP]), (RETURN, cfa));
        }
    }

    #[test]
    fn the_first_frame_of_a_thread_has_no_caller() {
        assert_eq!(x86(Rule::STOP, &[]).0, ended(End::Root));
        assert_eq!(arm(Rule::STOP, &[]).0, ended(End::Root));
        // Nor has one whose return address is 0.
        let rule = Rule::of(CFA_REGISTER, 7, FP_SAME, RA_BELOW_CFA, 0, 8);
        assert_eq!(x86(rule, &[(STACK, 0)]).0, ended(End::Root));
    }

    #[test]
    fn kinds_without_meaning_are_unsupported() {
        assert_eq!(x86(Rule::UNSUPPORTED, &[]).0, ended(End::RuleUnsupported));
        let beyond = Rule::of(CFA_UNSUPPORTED + 1, 7, FP_SAME, RA_BELOW_CFA, 0, 8);
        assert_eq!(x86(beyond, &[(STACK, RETURN)]).0, ended(End::RuleUnsupported));
        let no_link_register = Rule::of(CFA_REGISTER, 7, FP_SAME, RA_IN_LR, 0, 8);
        assert_eq!(x86(no_link_register, &[(STACK, RETURN)]).0, ended(End::RuleUnsupported));
    }

    #[test]
    fn a_table_may_follow_the_frame_pointer_to_another_stack() {
        let words = [(FP, CALLER_FP), (FP + 8, RETURN)];
        assert_eq!(caller::<X86_64>(x86(Rule::FRAME_POINTER, &words)), (RETURN, FP + 16, Some(CALLER_FP)));
        assert_eq!(caller::<Aarch64>(arm(Rule::FRAME_POINTER, &words)), (RETURN, FP + 16, Some(CALLER_FP)));
        let below = STACK - 0x1000;
        let words = [(below, FP), (below + 8, RETURN)];
        let step = one_step::<X86_64>(Rule::FRAME_POINTER, below, &words);
        assert_eq!(caller::<X86_64>(step), (RETURN, below + 16, Some(FP)));
        let rule = Rule::of(CFA_REGISTER, 29, FP_AT_CFA, RA_ABOVE_FP, -10, 80);
        let step = one_step::<Aarch64>(rule, below, &words);
        assert_eq!(caller::<Aarch64>(step), (RETURN, below + 80, Some(FP)));
        // What a realigned frame reads from the stack is no way to another one.
        let rule = Rule::of(CFA_DEREF, 6, FP_SAME, RA_BELOW_CFA, 0, 0);
        let words = [(FP, below + 16), (below + 8, RETURN)];
        assert_eq!(x86(rule, &words).0, ended(End::NoProgress));
    }

    #[test]
    fn a_frame_pointer_of_zero_is_the_root_and_an_unaligned_one_is_none() {
        assert_eq!(one_step::<X86_64>(Rule::FRAME_POINTER, 0, &[]).0, ended(End::Root));
        let words = [(FP + 4, CALLER_FP), (FP + 12, RETURN)];
        assert_eq!(one_step::<X86_64>(Rule::FRAME_POINTER, FP + 4, &words).0, ended(End::NoProgress));
    }

    #[test]
    fn the_saved_frame_pointer_is_read_where_the_rule_says_or_lost() {
        let words = [(STACK + 24, RETURN), (STACK + 8, CALLER_FP), (FP - 24, CALLER_FP + 8)];
        let fp_of = |kind, words_off| {
            let rule = Rule::of(CFA_REGISTER, 7, kind, RA_BELOW_CFA, words_off, 32);
            caller::<X86_64>(x86(rule, &words)).2
        };
        assert_eq!(fp_of(FP_SAME, -3), Some(FP));
        assert_eq!(fp_of(FP_AT_CFA, -3), Some(CALLER_FP));
        assert_eq!(fp_of(FP_AT_FP, -3), Some(CALLER_FP + 8));
        assert_eq!(fp_of(FP_UNDEFINED, -3), None);
    }

    #[test]
    fn a_frame_that_needs_a_lost_frame_pointer_ends_the_walk() {
        let loses = Rule::of(CFA_REGISTER, 7, FP_UNDEFINED, RA_BELOW_CFA, 0, 8);
        for rule in [
            Rule::FRAME_POINTER,
            Rule::of(CFA_REGISTER, 6, FP_SAME, RA_BELOW_CFA, 0, 16),
            Rule::of(CFA_REGISTER, 7, FP_AT_FP, RA_BELOW_CFA, 0, 8),
        ] {
            let mut space = Fake::new(Found::Rule(rule)).with(&[(STACK, RETURN), (STACK + 8, RETURN)]);
            space
                .rules
                .insert((PC - crate::fake::CODE) as u32 + crate::fake::CODE_OFFSET, Found::Rule(loses));
            let mut walk = Walk::start::<X86_64>(registers::<X86_64>(FP));
            assert_eq!(walk.step::<X86_64, _>(&mut space), Step::Frame(frame(PC)));
            let last = walk.step::<X86_64, _>(&mut space);
            assert_eq!(last, Step::Last(frame(RETURN - 1), End::RegisterUnknown), "{rule:?}");
        }
    }

    #[test]
    fn aarch64_saves_the_return_address_above_the_frame_pointer_or_alone() {
        let pair = Rule::of(CFA_REGISTER, 31, FP_AT_CFA, RA_ABOVE_FP, -4, 32);
        let words = [(STACK, CALLER_FP), (STACK + 8, RETURN)];
        assert_eq!(caller::<Aarch64>(arm(pair, &words)), (RETURN, STACK + 32, Some(CALLER_FP)));
        let alone = Rule::of(CFA_REGISTER, 31, FP_SAME, RA_AT_CFA, -2, 16);
        assert_eq!(caller::<Aarch64>(arm(alone, &[(STACK, RETURN)])), (RETURN, STACK + 16, Some(FP)));
    }

    #[test]
    fn only_an_interrupted_aarch64_leaf_returns_by_its_link_register_without_moving_sp() {
        let leaf = Rule::of(CFA_REGISTER, 31, FP_SAME, RA_IN_LR, 0, 0);
        let mut start = registers::<Aarch64>(FP);
        start.general[30] = RETURN;
        let mut space = Fake::new(Found::Rule(leaf));
        let mut walk = Walk::start::<Aarch64>(start);
        assert_eq!(caller::<Aarch64>((walk.step::<Aarch64, _>(&mut space), walk)), (RETURN, STACK, Some(FP)));
        let last = walk.step::<Aarch64, _>(&mut space);
        assert_eq!(last, Step::Last(frame(RETURN - 1), End::NoProgress));
        let lr_after_call = Rule::of(CFA_REGISTER, 31, FP_SAME, RA_IN_LR, 0, 16);
        space.otherwise = Found::Rule(lr_after_call);
        let last = walk.step::<Aarch64, _>(&mut space);
        assert_eq!(last, Step::Last(frame(RETURN - 1), End::RegisterUnknown));
    }

    #[test]
    fn a_signed_return_address_loses_its_signature_on_aarch64_alone() {
        let signed = RETURN | 0x2a35 << 48;
        let rule = |sp| Rule::of(CFA_REGISTER, sp, FP_SAME, RA_BELOW_CFA, 0, 8);
        assert_eq!(caller::<Aarch64>(arm(rule(31), &[(STACK, signed)])).0, RETURN);
        assert_eq!(caller::<X86_64>(x86(rule(7), &[(STACK, signed)])).0, signed);
    }

    #[test]
    fn the_next_frame_lies_above_this_one() {
        let words = [(STACK - 8, RETURN), (STACK - 24, RETURN)];
        for cfa_offset in [0, -16, -0x1_0000] {
            let rule = Rule::of(CFA_REGISTER, 7, FP_SAME, RA_BELOW_CFA, 0, cfa_offset);
            assert_eq!(x86(rule, &words).0, ended(End::NoProgress), "{cfa_offset}");
        }
    }

    #[test]
    fn unreadable_memory_ends_the_walk_with_the_reason_of_the_space() {
        let rule = Rule::of(CFA_REGISTER, 7, FP_AT_CFA, RA_BELOW_CFA, -2, 16);
        assert_eq!(x86(rule, &[(STACK, CALLER_FP)]).0, ended(End::MemoryUnreadable));
        let mut space = Fake::new(Found::Rule(rule)).with(&[(STACK + 8, RETURN)]);
        space.word_end = End::StackCut;
        let mut walk = Walk::start::<X86_64>(registers::<X86_64>(FP));
        assert_eq!(walk.step::<X86_64, _>(&mut space), ended(End::StackCut));
    }
}
