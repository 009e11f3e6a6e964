//! Counts identical stacks; a stack's frames are sent only when user space does not have them.

use abi::{COMM_BYTES, Counter, StackEvent, StackKey};
use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    maps::HashMap,
};

use crate::{
    cgroup,
    globals::{offset, setting},
    identity::{self, Identity, read_field},
    maps::{self, CONTROL, COUNTS_0, COUNTS_1, EVENTS, IMAGES_SENT, SCRATCH, STACKS_SENT, Scratch},
    stack,
};

const EEXIST: i32 = -17;

/// Sends the frames if they are new, then counts the stack. Either counts the sample or counts why not.
#[inline(always)]
pub(crate) fn count_stack(identity: &Identity, scratch: &mut Scratch) {
    let hash = hash_stack();
    scratch.event.hash = hash;
    let key = StackKey { hash, tgid: identity.tgid, exec_id: identity.exec_id };
    // SAFETY: the reference is dropped at once.
    if unsafe { STACKS_SENT.get(key) }.is_none() && !send(identity, &key, scratch) {
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
fn send(identity: &Identity, key: &StackKey, scratch: &mut Scratch) -> bool {
    cgroup::send_once(identity.kernfs_node, identity.cgroup_id);
    scratch.event.comm = read_field(identity.leader, offset!(task_comm)).unwrap_or([0; COMM_BYTES]);
    scratch.event.visible_tgid = identity::visible_tgid(identity);
    let image = u64::from(identity.tgid) << 32 | u64::from(identity.exec_id);
    // SAFETY: the value is copied at once.
    let image_known = unsafe { IMAGES_SENT.get(image) }.is_some_and(|start| *start == identity.start_time_ns);
    // A process that was never seen wakes the reader at once, who reads its mappings while it lives.
    let wake = !image_known || EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) >= setting!(wakeup_bytes);
    let frames = stack::kernel_frames(&scratch.event) + stack::user_frames(&scratch.event);
    let bytes = size_of::<StackEvent>() + frames * size_of::<u64>();
    // SAFETY: `frames` follow `event` in Scratch without padding, and `bytes` stays inside it.
    let data = unsafe { core::slice::from_raw_parts((&raw const *scratch).cast::<u8>(), bytes) };
    let flags = if wake { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    if EVENTS.output::<[u8]>(data, u64::from(flags)).is_err() {
        return false;
    }
    maps::count(Counter::StacksSent);
    // If either insert fails, the frames are sent once more with the next sample.
    let _sent_again = STACKS_SENT.insert(key, 1u32, u64::from(BPF_ANY));
    if !image_known {
        let _sent_again = IMAGES_SENT.insert(image, identity.start_time_ns, u64::from(BPF_ANY));
    }
    true
}

/// A multiply-rotate mix over what tells stacks of one process apart, closed by MurmurHash3's 64-bit finalizer.
///
/// A global function without arguments, so that the verifier walks its loop once and not once for each
/// path that leads here and leaves: 5.10 refuses pointer arguments of such functions.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn hash_stack() -> u64 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: a per-CPU value that only the program running on this CPU uses.
    let scratch = unsafe { &*scratch };
    let event = &scratch.event;
    let frames = stack::kernel_frames(event) + stack::user_frames(event);
    let mut hash = mix(mix(frames as u64, event.start_time_ns), event.cgroup_id);
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
