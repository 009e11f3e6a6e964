//! The perf_event program: one sample of the interrupted task, counted by its stack.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

mod aggregate;
mod cgroup;
mod globals;
mod identity;
mod maps;
mod stack;

use abi::Counter;
use aya_ebpf::{macros::perf_event, programs::PerfEventContext};

use crate::maps::{SCRATCH, Scratch};

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
    let Some(identity) = identity::read() else {
        return;
    };
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: a per-CPU value, and the program cannot be entered twice on one CPU (bpf_prog_active).
    let scratch: &mut Scratch = unsafe { &mut *scratch };
    identity.fill(&mut scratch.event);
    stack::capture(ctx, &identity, scratch);
    aggregate::count_stack(&identity, scratch);
}

/// The host only checks and lints this package.
#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
