//! The kernel stack and, by frame pointers from the interrupted user registers, the user stack.
//! `bpf_get_stack` walks both in the kernel's own C, 32-bit processes included, and finds the user
//! registers also when the tick hit kernel mode (kernel/events/callchain.c, get_perf_callchain).

use abi::{Counter, KERNEL_FRAMES_MAX, USER_FRAMES_MAX};
use aya_ebpf::{
    EbpfContext as _, bindings::BPF_F_USER_STACK, helpers::generated::bpf_get_stack,
    programs::PerfEventContext,
};

use crate::{
    globals::setting,
    identity::Identity,
    maps::{self, Scratch},
};

const FRAME_BYTES: u32 = size_of::<u64>() as u32;

/// Fills `scratch.frames` with kernel frames, then user frames, and their numbers.
#[inline(always)]
pub(crate) fn capture(ctx: &PerfEventContext, identity: &Identity, scratch: &mut Scratch) {
    let mut kernel_frames = 0u32;
    if setting!(kernel) == 1 {
        let bytes = KERNEL_FRAMES_MAX as u32 * FRAME_BYTES;
        // SAFETY: the buffer holds KERNEL_FRAMES_MAX frames and more.
        let got = unsafe { bpf_get_stack(ctx.as_ptr(), scratch.frames.as_mut_ptr().cast(), bytes, 0) };
        // Negative (-EFAULT) when the tick hit user mode: there is no kernel stack then.
        if got > 0 && got <= i64::from(bytes) {
            kernel_frames = got as u32 / FRAME_BYTES;
        }
    }
    if kernel_frames >= KERNEL_FRAMES_MAX as u32 {
        kernel_frames = KERNEL_FRAMES_MAX as u32;
        maps::count(Counter::KernelStackTruncated);
    }
    scratch.event.kernel_frames = kernel_frames;
    scratch.event.user_frames = 0;
    if setting!(user) == 1 && identity.has_user_stack() {
        scratch.event.user_frames = user_frames(ctx, kernel_frames, scratch);
    }
}

#[inline(always)]
fn user_frames(ctx: &PerfEventContext, kernel_frames: u32, scratch: &mut Scratch) -> u32 {
    let bytes = USER_FRAMES_MAX as u32 * FRAME_BYTES;
    // SAFETY: kernel_frames <= KERNEL_FRAMES_MAX, so USER_FRAMES_MAX frames fit behind it.
    let got = unsafe {
        let start = scratch.frames.as_mut_ptr().add(kernel_frames as usize);
        bpf_get_stack(ctx.as_ptr(), start.cast(), bytes, u64::from(BPF_F_USER_STACK))
    };
    if got <= 0 || got > i64::from(bytes) {
        maps::count(Counter::UserStackUnreadable);
        return 0;
    }
    let frames = got as u32 / FRAME_BYTES;
    if frames >= USER_FRAMES_MAX as u32 {
        maps::count(Counter::UserStackTruncated);
        return USER_FRAMES_MAX as u32;
    }
    frames
}
