//! The perf_event programs: one sample of the interrupted task, its user stack unwound, counted by its stack.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

mod cache;
mod cgroup;
mod finish;
mod globals;
mod identity;
mod image;
mod maps;
mod native;
mod programs;
mod raw;
mod registers;
mod scratch;
mod stack;
mod tables;

use abi::{Counter, End, Program};
use aya_ebpf::{macros::perf_event, programs::PerfEventContext};

use crate::{globals::setting, image::Told, registers::Mode, scratch::Scratch};

/// GPL-only helpers (bpf_get_stack, bpf_probe_read_kernel) are called.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 4] = *b"GPL\0";

/// Runs on each tick of a CPU's clock.
#[perf_event]
pub(crate) fn sampler(ctx: PerfEventContext) -> u32 {
    sample(&ctx);
    0
}

#[inline(always)]
fn sample(ctx: &PerfEventContext) {
    maps::count(Counter::Ran);
    let Some(scratch) = Scratch::get() else {
        return;
    };
    if !identity::read(scratch) {
        return;
    }
    if setting!(kernel) == 1 {
        stack::kernel_half(ctx, scratch);
    }
    // Kernel threads and their like never run user code.
    let has_user_half = setting!(user) == 1 && scratch.event.task_flags & setting!(no_user_stack_flags) == 0;
    let next = if has_user_half { user_half(ctx, scratch) } else { Program::Finish };
    match next {
        Program::Native => programs::enter(ctx, Program::Native),
        Program::Finish => programs::enter(ctx, Program::Finish),
        Program::Raw => programs::enter(ctx, Program::Raw),
    }
}

/// Finds out how the user stack is to be walked, and which program goes on.
#[inline(always)]
fn user_half(ctx: &PerfEventContext, scratch: &mut Scratch) -> Program {
    if setting!(unwind) == 0 {
        stack::user_half(ctx, scratch, End::FramePointers);
        return Program::Finish;
    }
    let mode =
        if image::has_memory() { registers::read(ctx, scratch) } else { Err(End::RegistersUnreadable) };
    match mode {
        Ok(Mode::Native) => {}
        Ok(Mode::Compat) => {
            if image::find(scratch).is_err() {
                scratch.image.version = 0;
            }
            stack::user_half(ctx, scratch, End::Compat);
            return Program::Finish;
        }
        Err(end) => {
            maps::count(Counter::UserStackUnreadable);
            scratch.event.end = end as u32;
            return Program::Finish;
        }
    }
    match image::find(scratch) {
        Ok(Told::Layout) => Program::Native,
        Ok(Told::GivenUp) => {
            stack::user_half(ctx, scratch, End::ImageUnknown);
            Program::Finish
        }
        Err(_) if image::is_in_exec() => {
            scratch.event.end = End::RegistersUnreadable as u32;
            Program::Finish
        }
        Err(end) => {
            scratch.event.end = end as u32;
            Program::Raw
        }
    }
}

/// The host only checks and lints this package.
#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
