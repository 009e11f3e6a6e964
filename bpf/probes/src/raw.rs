//! The program that sends a sample whole: registers and the top of the stack, for user space to unwind.

use abi::{Counter, EVENT_RAW, End, PAGE_BYTES, Program, RAW_STACK_BYTES_MAX, RawEvent};
use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP},
    cty::c_void,
    helpers::generated::{bpf_ktime_get_ns, bpf_probe_read_kernel, bpf_probe_read_user},
    macros::perf_event,
    programs::PerfEventContext,
};
use unwind::{Arch as _, Native};

use crate::{
    globals::setting,
    identity, image,
    maps::{self, EVENTS, RAW_SCRATCH},
    programs,
    scratch::Scratch,
};

const PAGE: usize = PAGE_BYTES;
/// Whole pages read behind the first piece.
const PAGES: usize = RAW_STACK_BYTES_MAX / PAGE;
/// Raw samples leave this many quarters of the ring buffer at most full, so that stacks find room.
const QUARTERS_MAX: u64 = 3;

/// Where a raw sample is put together: a page more than is sent, because the last page is read whole.
#[repr(C)]
pub(crate) struct RawScratch {
    event: RawEvent,
    stack: [u8; RAW_STACK_BYTES_MAX + PAGE],
}

const _: () = assert!(size_of::<RawScratch>() <= 32_768);

/// Sends the sample, or lets it be counted with the frames that it has.
#[perf_event]
pub(crate) fn raw(ctx: PerfEventContext) -> u32 {
    let Some(scratch) = Scratch::get() else {
        return 0;
    };
    match send(scratch) {
        Outcome::Sent => maps::count(Counter::RawSent),
        Outcome::Full => {
            maps::count(Counter::RawRingFull);
            programs::enter(&ctx, Program::Finish);
        }
        // Its mappings can never be read: nobody could complete it.
        Outcome::OutOfSight => {
            scratch.event.end = End::ImageUnknown as u32;
            programs::enter(&ctx, Program::Finish);
        }
    }
    0
}

/// What became of a raw sample.
enum Outcome {
    Sent,
    /// The ring buffer has no room.
    Full,
    /// The process has no number in the PID namespace of user space.
    OutOfSight,
}

#[inline(always)]
fn send(scratch: &mut Scratch) -> Outcome {
    if EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) > QUARTERS_MAX * setting!(wakeup_bytes) {
        return Outcome::Full;
    }
    let Some(raw) = RAW_SCRATCH.get_ptr_mut(0) else {
        return Outcome::Full;
    };
    // SAFETY: a per-CPU value, and the programs cannot be entered twice on one CPU (bpf_prog_active).
    let raw = unsafe { &mut *raw };
    let image_known = identity::describe(scratch);
    if scratch.event.visible_tgid == 0 {
        return Outcome::OutOfSight;
    }
    raw.event.stack = scratch.event;
    raw.event.stack.kind = EVENT_RAW;
    raw.event.stack.hash = 0;
    raw.event.stack.user_frames = 0;
    // SAFETY: takes no argument.
    raw.event.time_ns = unsafe { bpf_ktime_get_ns() };
    raw.event.stack_start = image::stack_start();
    copy(&mut raw.event.registers, &raw const scratch.registers);
    copy(&mut raw.event.kernel, scratch.frames.as_ptr().cast());
    let stack_bytes = copy_stack(scratch.registers.general[Native::SP], &mut raw.stack);
    raw.event.stack_bytes = stack_bytes as u32;
    let bytes = size_of::<RawEvent>() + bounded(stack_bytes);
    // SAFETY: the stack follows the event without padding, and `bytes` stays inside both.
    let data = unsafe { core::slice::from_raw_parts((&raw const *raw).cast::<u8>(), bytes) };
    if EVENTS.output::<[u8]>(data, u64::from(BPF_RB_FORCE_WAKEUP)).is_err() {
        return Outcome::Full;
    }
    identity::note_sent(&scratch.event, image_known);
    Outcome::Sent
}

/// Copies between map values by one call, where the compiler would make a loop of it.
#[inline(always)]
fn copy<T>(to: &mut T, from: *const T) {
    // SAFETY: both are as long as the type; reading a map value cannot fail.
    unsafe { bpf_probe_read_kernel((&raw mut *to).cast(), size_of::<T>() as u32, from.cast()) };
}

/// Copies from the stack pointer upwards, page by page, up to the first page that cannot be read; gives the bytes.
#[inline(always)]
fn copy_stack(sp: u64, stack: &mut [u8; RAW_STACK_BYTES_MAX + PAGE]) -> usize {
    let to = stack.as_mut_ptr();
    let first = sp.wrapping_neg() as usize & (PAGE - 1);
    // SAFETY: less than a page, and the helper checks the address.
    if unsafe { bpf_probe_read_user(to.cast(), first as u32, sp as usize as *const c_void) } != 0 {
        return 0;
    }
    let mut bytes = first;
    for page in 0..PAGES {
        let from = sp.wrapping_add(first as u64) as usize + page * PAGE;
        // SAFETY: less than a page and `page` pages before it, and the helper checks the address.
        let result = unsafe {
            bpf_probe_read_user(to.add(first + page * PAGE).cast(), PAGE as u32, from as *const c_void)
        };
        if result != 0 {
            break;
        }
        bytes = first + (page + 1) * PAGE;
    }
    if bytes > RAW_STACK_BYTES_MAX { RAW_STACK_BYTES_MAX } else { bytes }
}

/// The same number, in a register of which the verifier sees the limit.
#[cfg(target_arch = "bpf")]
#[inline(always)]
fn bounded(bytes: usize) -> usize {
    let mut bounded = bytes;
    // SAFETY: arithmetic on one register.
    unsafe {
        core::arch::asm!(
            "if {bytes} < {limit} goto +1",
            "{bytes} = {limit}",
            bytes = inout(reg) bounded,
            limit = const RAW_STACK_BYTES_MAX,
        );
    }
    bounded
}

/// The host never runs this; it is there so that the package is checked and linted with the others.
#[cfg(not(target_arch = "bpf"))]
fn bounded(bytes: usize) -> usize {
    bytes.min(RAW_STACK_BYTES_MAX)
}
