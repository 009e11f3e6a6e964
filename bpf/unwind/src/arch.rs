//! What differs between machines: register numbers, signal frames, signed return addresses.

use abi::{CFA_REGISTER, FP_SAME, RA_BELOW_CFA, RA_IN_LR, Registers, Rule};

use crate::Space;

/// Bytes from a `ucontext` to its `uc_mcontext`, x86-64: `uc_flags`, `uc_link`, `uc_stack`
/// (include/uapi/asm-generic/ucontext.h).
const X86_64_MCONTEXT_BYTES: u64 = 40;
/// The same on aarch64: `uc_sigmask` and 120 unused bytes come first, and the whole is aligned to 16
/// (arch/arm64/include/uapi/asm/ucontext.h).
const AARCH64_MCONTEXT_BYTES: u64 = 176;

/// A machine that stacks are unwound on.
pub trait Arch {
    /// DWARF number of the stack pointer.
    const SP: usize;
    /// DWARF number of the frame pointer.
    const FP: usize;
    /// DWARF number of the link register, where calls put the return address in one.
    const LR: Option<usize>;
    /// Bit N: there is a general register N.
    const REGISTERS: u32;
    /// Bits of a return address that are address; the others sign it.
    const ADDRESS_BITS: u64;
    /// The rule that holds at the first instruction of every function.
    const ENTRY: Rule;

    /// Takes all registers from the `ucontext` at this address; `None` when it cannot be read, the registers
    /// are then of no use.
    fn restore<S: Space>(space: &mut S, ucontext: u64, registers: &mut Registers) -> Option<()>;
}

/// The machine that this is built for; for BPF the feature `aarch64` chooses.
#[cfg(any(target_arch = "aarch64", all(target_arch = "bpf", feature = "aarch64")))]
pub type Native = Aarch64;
/// The machine that this is built for; for BPF the feature `aarch64` chooses.
#[cfg(not(any(target_arch = "aarch64", all(target_arch = "bpf", feature = "aarch64"))))]
pub type Native = X86_64;

/// System V ABI for AMD64, figure 3.36: rbp is 6, rsp is 7.
#[derive(Debug, Clone, Copy)]
pub struct X86_64;

impl Arch for X86_64 {
    const SP: usize = 7;
    const FP: usize = 6;
    const LR: Option<usize> = None;
    const REGISTERS: u32 = 0xffff;
    const ADDRESS_BITS: u64 = u64::MAX;
    const ENTRY: Rule = Rule::of(CFA_REGISTER, 7, FP_SAME, RA_BELOW_CFA, 0, 8);

    /// `struct sigcontext_64` (arch/x86/include/uapi/asm/sigcontext.h): r8 to r15, then these nine.
    #[inline(always)]
    fn restore<S: Space>(space: &mut S, ucontext: u64, registers: &mut Registers) -> Option<()> {
        let mcontext = ucontext.wrapping_add(X86_64_MCONTEXT_BYTES);
        let [_, _, _, _, _, _, _, _, upper @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] =
            &mut registers.general;
        space.words::<8>(mcontext, upper)?;
        let mut others = [0; 9];
        space.words(mcontext.wrapping_add(64), &mut others)?;
        let [rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip] = others;
        let [r0, r1, r2, r3, r4, r5, r6, r7, ..] = &mut registers.general;
        (*r0, *r1, *r2, *r3) = (rax, rdx, rcx, rbx);
        (*r4, *r5, *r6, *r7) = (rsi, rdi, rbp, rsp);
        registers.pc = rip;
        Some(())
    }
}

/// DWARF for the Arm 64-bit architecture, 4.1: x29 is the frame pointer, x30 the link register, 31 is sp.
#[derive(Debug, Clone, Copy)]
pub struct Aarch64;

impl Arch for Aarch64 {
    const SP: usize = 31;
    const FP: usize = 29;
    const LR: Option<usize> = Some(30);
    const REGISTERS: u32 = u32::MAX;
    /// Pointer authentication signs the bits above the address size (Arm ARM, D8.10). User space gets addresses
    /// of more than 48 bits only when it asks for them (Documentation/arch/arm64/memory.rst).
    const ADDRESS_BITS: u64 = (1 << 48) - 1;
    const ENTRY: Rule = Rule::of(CFA_REGISTER, 31, FP_SAME, RA_IN_LR, 0, 0);

    /// `struct sigcontext` (arch/arm64/include/uapi/asm/sigcontext.h): `fault_address`, x0 to x30, sp, pc.
    #[inline(always)]
    fn restore<S: Space>(space: &mut S, ucontext: u64, registers: &mut Registers) -> Option<()> {
        let general = ucontext.wrapping_add(AARCH64_MCONTEXT_BYTES + 8);
        space.words(general, &mut registers.general)?;
        registers.pc = space.word(general.wrapping_add(8 * 32))?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use abi::{CFA_SIGNAL, End};

    use super::*;
    use crate::fake::{Fake, PC, RETURN, STACK, frame, registers};
    use crate::{Found, Step, Walk};

    /// A walk that stands in a signal trampoline, called by the handler, and its step.
    fn after_signal<A: Arch>(cfa_offset: i32, words: &[(u64, u64)]) -> (Step, Walk) {
        let rule = Rule::of(CFA_SIGNAL, A::SP as u16, FP_SAME, RA_BELOW_CFA, 0, cfa_offset);
        let mut space = Fake::new(Found::Rule(rule)).with(words);
        let mut walk = Walk::start::<A>(registers::<A>(0));
        (walk.is_return, walk.known) = (1, 1 << A::SP);
        (walk.step::<A, _>(&mut space), walk)
    }

    #[test]
    fn an_x86_64_signal_frame_gives_back_all_registers() {
        // The kernel's order, by DWARF number; 16 stands for rip.
        let order = [8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7, 16];
        let words: Vec<_> =
            order.iter().enumerate().map(|(i, &r)| (STACK + 40 + 8 * i as u64, 1000 + r)).collect();
        let (step, walk) = after_signal::<X86_64>(0, &words);
        assert_eq!(step, Step::Frame(frame(PC - 1)));
        assert_eq!(walk.registers.pc, 1016);
        assert_eq!(walk.registers.general[..16], core::array::from_fn::<u64, 16, _>(|r| 1000 + r as u64));
        assert_eq!((walk.known, walk.is_return), (0xffff, 0));
        assert_eq!(
            after_signal::<X86_64>(0, &words[..16]).0,
            Step::Last(frame(PC - 1), End::MemoryUnreadable)
        );
    }

    #[test]
    fn an_aarch64_signal_frame_gives_back_all_registers() {
        // struct rt_sigframe: 128 bytes of siginfo come before the ucontext.
        let mcontext = STACK + 128 + 176;
        let words: Vec<_> = (0..33).map(|r| (mcontext + 8 + 8 * r, 1000 + r)).collect();
        let (step, walk) = after_signal::<Aarch64>(128, &words);
        assert_eq!(step, Step::Frame(frame(PC - 1)));
        assert_eq!(walk.registers.pc, 1032);
        assert_eq!(walk.registers.general, core::array::from_fn(|r| 1000 + r as u64));
        assert_eq!((walk.known, walk.is_return), (u32::MAX, 0));
        assert_eq!(
            after_signal::<Aarch64>(128, &words[1..]).0,
            Step::Last(frame(PC - 1), End::MemoryUnreadable)
        );
    }

    #[test]
    fn the_frame_below_a_signal_is_interrupted_wherever_its_stack_lies() {
        // The handler ran on its own stack above; the interrupted code's row is looked up at its very address.
        let rule = Rule::of(CFA_SIGNAL, 7, FP_SAME, RA_BELOW_CFA, 0, 0);
        let mut space = Fake::new(Found::Rule(Rule::STOP))
            .with(&[(STACK + 40 + 8 * 15, STACK - 0x8000), (STACK + 40 + 8 * 16, RETURN)]);
        for word in 0..15 {
            space.words.insert(STACK + 40 + 8 * word, 0);
        }
        space.rules.insert((PC - crate::fake::CODE) as u32 + crate::fake::CODE_OFFSET, Found::Rule(rule));
        let mut walk = Walk::start::<X86_64>(registers::<X86_64>(0));
        assert_eq!(walk.step::<X86_64, _>(&mut space), Step::Frame(frame(PC)));
        assert_eq!(walk.step::<X86_64, _>(&mut space), Step::Last(frame(RETURN), End::Root));
    }
}
