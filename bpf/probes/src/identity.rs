//! Who was interrupted: process, its image, its cgroup.

use abi::{COMM_BYTES, Counter, End, StackEvent, image_key};
use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::{bpf_get_current_pid_tgid, bpf_get_current_task, bpf_probe_read_kernel},
};

use crate::{
    cgroup,
    globals::{offset, setting},
    maps::{self, IMAGES_SENT},
    scratch::Scratch,
};

/// Nested PID namespaces that are searched; the kernel allows 32, container runtimes nest 2 or 3.
const PID_LEVELS_MAX: u32 = 8;

/// Starts the sample with who runs, without frames; counts why there is no sample if so.
#[inline(always)]
pub(crate) fn read(scratch: &mut Scratch) -> bool {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if tgid == 0 {
        maps::count(Counter::Idle);
        return false;
    }
    // SAFETY: takes no argument.
    let task = unsafe { bpf_get_current_task() };
    scratch.event.tgid = tgid;
    scratch.event.kernel_frames = 0;
    scratch.event.user_frames = 0;
    scratch.event.end = End::Root as u32;
    if read_task(task, scratch).is_none() {
        maps::count(Counter::TaskUnreadable);
        return false;
    }
    true
}

#[inline(always)]
fn read_task(task: u64, scratch: &mut Scratch) -> Option<()> {
    let leader: u64 = read_field(task, offset!(task_group_leader))?;
    scratch.leader = leader;
    scratch.event.exec_id = read_field(leader, offset!(task_self_exec_id))?;
    scratch.event.start_time_ns = read_field(leader, offset!(task_start_time))?;
    scratch.event.task_flags = read_field(task, offset!(task_flags))?;
    let (kernfs_node, cgroup_id) =
        if setting!(cgroup) != abi::CGROUP_NONE { cgroup::of_task(task)? } else { (0, 0) };
    scratch.kernfs_node = kernfs_node;
    scratch.event.cgroup_id = cgroup_id;
    Some(())
}

/// Adds what user space needs when the process is new to it; gives whether it is not. Only asked for when
/// something is sent.
#[inline(always)]
pub(crate) fn describe(scratch: &mut Scratch) -> bool {
    cgroup::send_once(scratch.kernfs_node, scratch.event.cgroup_id);
    scratch.event.comm = read_field(scratch.leader, offset!(task_comm)).unwrap_or([0; COMM_BYTES]);
    scratch.event.visible_tgid = visible_tgid(scratch);
    let key = image_key(scratch.event.tgid, scratch.event.exec_id);
    // SAFETY: the value is copied at once.
    unsafe { IMAGES_SENT.get(key) }.is_some_and(|start| *start == scratch.event.start_time_ns)
}

/// Remembers that user space has the process.
#[inline(always)]
pub(crate) fn note_sent(event: &StackEvent, image_known: bool) {
    if !image_known {
        let key = image_key(event.tgid, event.exec_id);
        // If the insert fails, the process's next stack wakes the reader once more.
        let _woken_again = IMAGES_SENT.insert(key, event.start_time_ns, u64::from(BPF_ANY));
    }
}

/// The process's number in the PID namespace of user space, which names `/proc/PID` there.
#[inline(always)]
fn visible_tgid(scratch: &Scratch) -> u32 {
    let wanted = setting!(pid_namespace_inum);
    if wanted == 0 {
        return scratch.event.tgid;
    }
    number_in(scratch.leader, wanted).unwrap_or(0)
}

/// `struct pid` holds one number for each namespace from the initial one inwards (include/linux/pid.h).
#[inline(always)]
fn number_in(leader: u64, wanted: u32) -> Option<u32> {
    let pid: u64 = read_field(leader, offset!(task_thread_pid))?;
    let level: u32 = read_field(pid, offset!(pid_level))?;
    for depth in 0..PID_LEVELS_MAX {
        if depth > level {
            return None;
        }
        let number = pid + offset!(pid_numbers) as u64 + u64::from(depth) * offset!(upid_bytes) as u64;
        let namespace: u64 = read_field(number, offset!(upid_ns))?;
        let inum: u32 = read_field(namespace, offset!(pid_namespace_inum))?;
        if inum == wanted {
            return read_field(number, offset!(upid_nr));
        }
    }
    None
}

/// One field of a kernel struct at `base`.
#[inline(always)]
pub(crate) fn read_field<T>(base: u64, offset: usize) -> Option<T> {
    // SAFETY: bpf_probe_read_kernel checks the address and fails on a bad one.
    unsafe { bpf_probe_read_kernel((base as usize + offset) as *const T) }.ok()
}
