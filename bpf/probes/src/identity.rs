//! Who was interrupted: process, its image, its cgroup.

use abi::{Counter, EVENT_STACK, StackEvent};
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_task, bpf_probe_read_kernel};

use crate::{
    cgroup,
    globals::{offset, setting},
    maps,
};

/// Nested PID namespaces that are searched; the kernel allows 32, container runtimes nest 2 or 3.
const PID_LEVELS_MAX: u32 = 8;

/// The interrupted process.
pub(crate) struct Identity {
    pub(crate) tgid: u32,
    pub(crate) exec_id: u32,
    pub(crate) task_flags: u32,
    pub(crate) start_time_ns: u64,
    pub(crate) cgroup_id: u64,
    pub(crate) kernfs_node: u64,
    pub(crate) leader: u64,
}

impl Identity {
    /// The parts that user space gets.
    #[inline(always)]
    pub(crate) fn fill(&self, event: &mut StackEvent) {
        event.kind = EVENT_STACK;
        event.task_flags = self.task_flags;
        event.tgid = self.tgid;
        event.exec_id = self.exec_id;
        event.start_time_ns = self.start_time_ns;
        event.cgroup_id = self.cgroup_id;
    }

    /// Whether this task runs user code.
    #[inline(always)]
    pub(crate) fn has_user_stack(&self) -> bool {
        self.task_flags & setting!(no_user_stack_flags) == 0
    }
}

/// Reads who runs, or counts why there is no sample.
#[inline(always)]
pub(crate) fn read() -> Option<Identity> {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if tgid == 0 {
        maps::count(Counter::Idle);
        return None;
    }
    // SAFETY: takes no argument.
    let task = unsafe { bpf_get_current_task() };
    let identity = read_task(task, tgid);
    if identity.is_none() {
        maps::count(Counter::TaskUnreadable);
    }
    identity
}

#[inline(always)]
fn read_task(task: u64, tgid: u32) -> Option<Identity> {
    let leader: u64 = read_field(task, offset!(task_group_leader))?;
    let exec_id: u32 = read_field(leader, offset!(task_self_exec_id))?;
    let start_time_ns: u64 = read_field(leader, offset!(task_start_time))?;
    let task_flags: u32 = read_field(task, offset!(task_flags))?;
    let (kernfs_node, cgroup_id) =
        if setting!(cgroup) != abi::CGROUP_NONE { cgroup::of_task(task)? } else { (0, 0) };
    Some(Identity { tgid, exec_id, task_flags, start_time_ns, cgroup_id, kernfs_node, leader })
}

/// The process's number in the PID namespace of user space, which names `/proc/PID` there. Only asked
/// for when a stack is sent.
#[inline(always)]
pub(crate) fn visible_tgid(identity: &Identity) -> u32 {
    let wanted = setting!(pid_namespace_inum);
    if wanted == 0 {
        return identity.tgid;
    }
    number_in(identity.leader, wanted).unwrap_or(0)
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
