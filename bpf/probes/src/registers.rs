//! User registers of the interrupted thread, by their DWARF numbers.

use abi::End;
use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::{
        bpf_get_current_task, bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_task_pt_regs,
    },
    programs::PerfEventContext,
};
use unwind::Native;

use crate::{
    globals::{offset, setting},
    identity::read_field,
    scratch::Scratch,
};

#[cfg(feature = "aarch64")]
mod aarch64;
#[cfg(not(feature = "aarch64"))]
mod x86_64;

#[cfg(feature = "aarch64")]
pub(crate) use aarch64::PtRegs;
#[cfg(not(feature = "aarch64"))]
pub(crate) use x86_64::PtRegs;

/// What the thread's registers are of.
pub(crate) enum Mode {
    /// Code of the machine's own word size: `Scratch::registers` holds them, and the walk stands there.
    Native,
    /// A 32-bit process.
    Compat,
}

/// Reads the registers into the scratch and starts the walk from them.
#[inline(always)]
pub(crate) fn read(ctx: &PerfEventContext, scratch: &mut Scratch) -> Result<Mode, End> {
    // The context of a perf_event program begins with the interrupted registers (bpf_perf_event_data).
    let interrupted: *const PtRegs = ctx.as_ptr().cast();
    // SAFETY: see above.
    if unsafe { PtRegs::is_user(interrupted) } {
        // SAFETY: see above.
        unsafe { scratch.pt_regs.copy_from(interrupted) };
    } else {
        read_saved(&mut scratch.pt_regs)?;
    }
    if !scratch.pt_regs.is_native() {
        return Ok(Mode::Compat);
    }
    scratch.pt_regs.store(&mut scratch.registers);
    scratch.pt_regs.store(&mut scratch.walk.registers);
    scratch.walk.restart::<Native>();
    // A thread on its way out, or inside exec, has none.
    if scratch.registers.pc == 0 { Err(End::RegistersUnreadable) } else { Ok(Mode::Native) }
}

/// What the kernel saved at its entry from user mode, at the end of the thread's kernel stack.
#[inline(always)]
fn read_saved(into: &mut PtRegs) -> Result<(), End> {
    let saved = if setting!(has_task_pt_regs) == 1 {
        // SAFETY: the first takes no argument, the second what it gave.
        (unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) }) as u64
    } else {
        // SAFETY: takes no argument.
        let task = unsafe { bpf_get_current_task() };
        let stack: u64 = read_field(task, offset!(task_stack)).ok_or(End::RegistersUnreadable)?;
        stack + offset!(stack_pt_regs) as u64
    };
    // SAFETY: writes as many bytes as the struct has; the helper checks the source address.
    let result = unsafe {
        bpf_probe_read_kernel(
            (&raw mut *into).cast(),
            size_of::<PtRegs>() as u32,
            (saved as usize) as *const _,
        )
    };
    if result == 0 { Ok(()) } else { Err(End::RegistersUnreadable) }
}

/// Copies fields of the context, each loaded as the verifier wants it: alone, at a fixed offset.
macro_rules! copy_fields {
    ($from:ident, $to:ident, $($field:tt $([$index:literal])?),+ $(,)?) => {
        $(
            // SAFETY: the caller gives readable registers; volatile so that loads are neither merged nor moved.
            $to.$field $([$index])? = unsafe { core::ptr::read_volatile(&raw const (*$from).$field $([$index])?) };
        )+
    };
}
use copy_fields;
