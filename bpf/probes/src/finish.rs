//! The program that counts identical stacks; a stack's frames are sent only when user space does not have them.

use abi::{Counter, EVENT_STACK, End, StackEvent, StackKey};
use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    macros::perf_event,
    maps::HashMap,
    programs::PerfEventContext,
};

use crate::{
    globals::setting,
    identity,
    maps::{self, CONTROL, COUNTS_0, COUNTS_1, EVENTS, STACKS_SENT},
    scratch::Scratch,
};

const EEXIST: i32 = -17;

/// Ends every sample that is not sent raw.
#[perf_event]
pub(crate) fn finish(_ctx: PerfEventContext) -> u32 {
    if let Some(scratch) = Scratch::get() {
        count_stack(scratch);
    }
    0
}

/// Sends the frames if they are new, then counts the stack. Either counts the sample or counts why not.
#[inline(always)]
fn count_stack(scratch: &mut Scratch) {
    let hash = hash_stack();
    scratch.event.hash = hash;
    let key = StackKey { hash, tgid: scratch.event.tgid, exec_id: scratch.event.exec_id };
    // SAFETY: the reference is dropped at once.
    if unsafe { STACKS_SENT.get(key) }.is_none() && !send(&key, scratch) {
        maps::count(Counter::RingFull);
        return;
    }
    let active = CONTROL.get(0).map_or(0, |control| control.active);
    let counted = if active == 0 { increment(&COUNTS_0, &key) } else { increment(&COUNTS_1, &key) };
    maps::count(if counted { Counter::Counted } else { Counter::CountsFull });
}

#[inline(always)]
fn increment(counts: &HashMap<StackKey, u64>, key: &StackKey) -> bool {
    if add_one(counts, key) {
        return true;
    }
    match counts.insert(key, 1u64, u64::from(BPF_NOEXIST)) {
        Ok(()) => true,
        // Another CPU was first with the same stack.
        Err(EEXIST) => add_one(counts, key),
        Err(_) => false,
    }
}

#[inline(always)]
fn add_one(counts: &HashMap<StackKey, u64>, key: &StackKey) -> bool {
    let Some(value) = counts.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: a live map value, aligned to 8.
    unsafe { atomic_increment(value) };
    true
}

/// Other CPUs count the same stack at the same time. `core`'s atomics have no `fetch_add` on this target.
#[cfg(target_arch = "bpf")]
#[inline(always)]
unsafe fn atomic_increment(value: *mut u64) {
    // SAFETY: the caller gives a live, aligned map value; BPF_STX | BPF_ATOMIC | BPF_ADD (XADD).
    unsafe {
        core::arch::asm!("lock *(u64 *)({value} + 0) += {one}", value = in(reg) value, one = in(reg) 1u64)
    };
}

/// The host never runs this; it is there so that the package is checked and linted with the others.
#[cfg(not(target_arch = "bpf"))]
unsafe fn atomic_increment(value: *mut u64) {
    // SAFETY: the caller gives a live, aligned value.
    unsafe { *value += 1 };
}

#[inline(always)]
fn send(key: &StackKey, scratch: &mut Scratch) -> bool {
    let image_known = identity::describe(scratch);
    scratch.event.kind = EVENT_STACK;
    // A process that was never seen wakes the reader at once, who reads its mappings while it lives.
    let wake = !image_known || EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) >= setting!(wakeup_bytes);
    let frames = scratch.kernel_frames() + scratch.user_frames();
    let bytes = size_of::<StackEvent>() + frames * size_of::<u64>();
    // SAFETY: `frames` follow `event` in Scratch without padding, and `bytes` stays inside it.
    let data = unsafe { core::slice::from_raw_parts((&raw const *scratch).cast::<u8>(), bytes) };
    let flags = if wake { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    if EVENTS.output::<[u8]>(data, u64::from(flags)).is_err() {
        return false;
    }
    maps::count(Counter::StacksSent);
    // If the insert fails, the frames are sent once more with the next sample.
    let _sent_again = STACKS_SENT.insert(key, 1u32, u64::from(BPF_ANY));
    identity::note_sent(&scratch.event, image_known);
    true
}

/// A multiply-rotate mix over what tells stacks of one process apart, closed by MurmurHash3's 64-bit finalizer.
///
/// A global function without arguments, so that the verifier walks its loop once and not once for each
/// path that leads here and leaves: 5.10 refuses pointer arguments of such functions.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn hash_stack() -> u64 {
    let Some(scratch) = Scratch::get() else {
        return 0;
    };
    let frames = scratch.kernel_frames() + scratch.user_frames();
    let event = &scratch.event;
    // Addresses alone mean something else once something else is mapped there.
    let version = if event.end == End::Compat as u32 { scratch.image.version } else { 0 };
    let mut hash = mix(mix(frames as u64 | u64::from(version) << 32, event.start_time_ns), event.cgroup_id);
    hash = mix(hash, u64::from(event.end) << 32 | u64::from(event.kernel_frames));
    for (index, address) in scratch.frames.iter().enumerate() {
        if index >= frames {
            break;
        }
        hash = mix(hash, *address);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[inline(always)]
fn mix(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31)
}
