//! The kernel stack and, by frame pointers from the interrupted user registers, the user stack.
//! `bpf_get_stack` walks both in the kernel's own C, 32-bit processes included, and finds the user
//! registers also when the tick hit kernel mode (kernel/events/callchain.c, get_perf_callchain).

use abi::{Counter, KERNEL_FRAMES_MAX, StackEvent, USER_FRAMES_MAX};
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
const _: () = assert!((KERNEL_FRAMES_MAX + 1).is_power_of_two() && (USER_FRAMES_MAX + 1).is_power_of_two());

/// The number of kernel frames, bounded where the verifier sees it: read back from memory, so that the
/// compiler cannot know it and keeps the mask. Kernels before 6.12 do not carry a bound to a copied register.
#[inline(always)]
pub(crate) fn kernel_frames(event: &StackEvent) -> usize {
    // SAFETY: a valid reference; volatile for the reason above.
    let frames = unsafe { core::ptr::read_volatile(&raw const event.kernel_frames) };
    frames as usize & KERNEL_FRAMES_MAX
}

/// As [`kernel_frames`], for the user half.
#[inline(always)]
pub(crate) fn user_frames(event: &StackEvent) -> usize {
    // SAFETY: a valid reference; volatile for the same reason.
    let frames = unsafe { core::ptr::read_volatile(&raw const event.user_frames) };
    frames as usize & USER_FRAMES_MAX
}

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
        scratch.event.user_frames = capture_user(ctx, scratch);
    }
}

#[inline(always)]
fn capture_user(ctx: &PerfEventContext, scratch: &mut Scratch) -> u32 {
    let bytes = USER_FRAMES_MAX as u32 * FRAME_BYTES;
    // SAFETY: the kernel's half is at most KERNEL_FRAMES_MAX, so USER_FRAMES_MAX frames fit behind it.
    let got = unsafe {
        let start = scratch.frames.as_mut_ptr().add(kernel_frames(&scratch.event));
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
