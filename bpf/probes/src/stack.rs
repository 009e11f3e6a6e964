//! Stacks as the kernel itself walks them: the kernel half, and the user half by frame pointers where unwind
//! tables are not used. `bpf_get_stack` knows 32-bit processes, and finds the user registers also when the tick
//! hit kernel mode (kernel/events/callchain.c, get_perf_callchain).

use abi::{Counter, End, KERNEL_FRAMES_MAX};
use aya_ebpf::{
    EbpfContext as _, bindings::BPF_F_USER_STACK, helpers::generated::bpf_get_stack,
    programs::PerfEventContext,
};

use crate::{maps, scratch::Scratch};

const FRAME_BYTES: u32 = size_of::<u64>() as u32;
/// `bpf_get_stack` gives no more for either half, `kernel.perf_event_max_stack` by default.
const FRAMES_MAX: u32 = KERNEL_FRAMES_MAX as u32;

/// Takes the kernel half.
#[inline(always)]
pub(crate) fn kernel_half(ctx: &PerfEventContext, scratch: &mut Scratch) {
    let bytes = FRAMES_MAX * FRAME_BYTES;
    // SAFETY: the buffer holds so many frames and more.
    let got = unsafe { bpf_get_stack(ctx.as_ptr(), scratch.frames.as_mut_ptr().cast(), bytes, 0) };
    // Negative (-EFAULT) when the tick hit user mode: there is no kernel stack then.
    if got <= 0 || got > i64::from(bytes) {
        return;
    }
    let frames = got as u32 / FRAME_BYTES;
    if frames >= FRAMES_MAX {
        maps::count(Counter::KernelStackTruncated);
    }
    scratch.event.kernel_frames = frames;
}

/// Takes the user half by frame pointers; it ends with `end` unless it is too deep or cannot be read.
#[inline(always)]
pub(crate) fn user_half(ctx: &PerfEventContext, scratch: &mut Scratch, end: End) {
    let bytes = FRAMES_MAX * FRAME_BYTES;
    // SAFETY: as many frames fit behind the kernel half.
    let got = unsafe {
        bpf_get_stack(ctx.as_ptr(), scratch.user_frame(0).cast(), bytes, u64::from(BPF_F_USER_STACK))
    };
    if got <= 0 || got > i64::from(bytes) {
        maps::count(Counter::UserStackUnreadable);
        scratch.event.end = End::RegistersUnreadable as u32;
        return;
    }
    let frames = got as u32 / FRAME_BYTES;
    scratch.event.user_frames = frames;
    scratch.event.end = end as u32;
    if frames >= FRAMES_MAX {
        maps::count(Counter::UserStackTruncated);
        scratch.event.end = End::FrameLimit as u32;
    }
    call_places();
}

/// Turns the user half's return addresses into the places of their calls, as unwinding by tables gives them.
/// A global function for the reason that `tables` gives.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn call_places() -> u32 {
    let Some(scratch) = Scratch::get() else {
        return 0;
    };
    let frames = scratch.user_frames();
    for number in 1..FRAMES_MAX as usize {
        if number >= frames {
            break;
        }
        let frame = scratch.user_frame(number);
        // SAFETY: inside `frames`, see there.
        unsafe { *frame = (*frame).wrapping_sub(1) };
    }
    0
}
