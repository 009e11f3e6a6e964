//! `struct user_pt_regs` of arm64 (arch/arm64/include/uapi/asm/ptrace.h), with which its `pt_regs` begins.

use abi::Registers;

use super::copy_fields;

/// `PSR_MODE_MASK`: 0 is EL0t, user mode.
const MODE_MASK: u64 = 0xf;
/// `PSR_MODE32_BIT`.
const MODE_32: u64 = 0x10;

#[repr(C)]
pub(crate) struct PtRegs {
    regs: [u64; 31],
    sp: u64,
    pc: u64,
    pstate: u64,
}

impl PtRegs {
    /// Whether user mode was interrupted.
    ///
    /// # Safety
    /// `regs` can be read.
    #[inline(always)]
    pub(crate) unsafe fn is_user(regs: *const Self) -> bool {
        // SAFETY: the caller gives readable registers.
        let pstate = unsafe { core::ptr::read_volatile(&raw const (*regs).pstate) };
        pstate & MODE_MASK == 0
    }

    /// Copies what is used.
    ///
    /// # Safety
    /// `regs` can be read.
    #[inline(always)]
    pub(crate) unsafe fn copy_from(&mut self, regs: *const Self) {
        copy_fields!(
            regs, self, regs[0], regs[1], regs[2], regs[3], regs[4], regs[5], regs[6], regs[7], regs[8],
            regs[9], regs[10], regs[11], regs[12], regs[13], regs[14], regs[15], regs[16], regs[17],
            regs[18], regs[19], regs[20], regs[21], regs[22], regs[23], regs[24], regs[25], regs[26],
            regs[27], regs[28], regs[29], regs[30], sp, pc, pstate
        );
    }

    /// Whether they are of 64-bit code.
    #[inline(always)]
    pub(crate) fn is_native(&self) -> bool {
        self.pstate & MODE_32 == 0
    }

    /// Stores them by their DWARF numbers (DWARF for the Arm 64-bit architecture, 4.1): x0 to x30, then sp.
    #[inline(always)]
    pub(crate) fn store(&self, to: &mut Registers) {
        to.pc = self.pc;
        let [general @ .., sp] = &mut to.general;
        *sp = self.sp;
        for (register, value) in general.iter_mut().zip(&self.regs) {
            *register = *value;
        }
    }
}
