//! `struct pt_regs` of x86-64 (arch/x86/include/uapi/asm/ptrace.h).

use abi::Registers;

use super::copy_fields;

/// Requested privilege level of user mode, the low bits of `cs`.
const USER_LEVEL: u64 = 3;
/// `__USER_CS` (arch/x86/include/asm/segment.h).
const CS_USER: u64 = 0x33;
/// `FLAT_USER_CS64` of Xen's paravirtual guests.
const CS_USER_XEN: u64 = 0xe033;
/// Above them newer processors note how the kernel was entered (`fred_cs`).
const CS_MASK: u64 = 0xffff;

#[repr(C)]
pub(crate) struct PtRegs {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    bp: u64,
    bx: u64,
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    ax: u64,
    cx: u64,
    dx: u64,
    si: u64,
    di: u64,
    orig_ax: u64,
    ip: u64,
    cs: u64,
    flags: u64,
    sp: u64,
    ss: u64,
}

impl PtRegs {
    /// Whether user mode was interrupted.
    ///
    /// # Safety
    /// `regs` can be read.
    #[inline(always)]
    pub(crate) unsafe fn is_user(regs: *const Self) -> bool {
        // SAFETY: the caller gives readable registers.
        let cs = unsafe { core::ptr::read_volatile(&raw const (*regs).cs) };
        cs & USER_LEVEL == USER_LEVEL
    }

    /// Copies what is used.
    ///
    /// # Safety
    /// `regs` can be read.
    #[inline(always)]
    pub(crate) unsafe fn copy_from(&mut self, regs: *const Self) {
        copy_fields!(
            regs, self, r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, ip, cs, sp
        );
    }

    /// Whether they are of 64-bit code.
    #[inline(always)]
    pub(crate) fn is_native(&self) -> bool {
        matches!(self.cs & CS_MASK, CS_USER | CS_USER_XEN)
    }

    /// Stores them by their DWARF numbers (System V ABI for AMD64, figure 3.36).
    #[inline(always)]
    pub(crate) fn store(&self, to: &mut Registers) {
        to.pc = self.ip;
        let [r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11, r12, r13, r14, r15, ..] = &mut to.general;
        (*r0, *r1, *r2, *r3) = (self.ax, self.dx, self.cx, self.bx);
        (*r4, *r5, *r6, *r7) = (self.si, self.di, self.bp, self.sp);
        (*r8, *r9, *r10, *r11) = (self.r8, self.r9, self.r10, self.r11);
        (*r12, *r13, *r14, *r15) = (self.r12, self.r13, self.r14, self.r15);
    }
}
