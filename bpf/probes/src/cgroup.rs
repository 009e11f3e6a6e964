//! PID to container in the kernel, one rule for v1, v2 and hybrid hosts: the cgroup of the hierarchy that
//! perf_event is on. That is the v2 hierarchy unless a v1 one has taken the controller.

use abi::{CGROUP_LEVELS_MAX, CGROUP_NAME_BYTES_MAX, CGROUP_RUNS_DEEPER, CGROUP_V2, Counter, EVENT_CGROUP};
use aya_ebpf::{
    bindings::{BPF_ANY, BPF_RB_FORCE_WAKEUP},
    helpers::generated::bpf_probe_read_kernel_str,
};

use crate::{
    globals::{offset, setting},
    identity::read_field,
    maps::{self, CGROUP_SCRATCH, CGROUPS_SENT, EVENTS},
};

/// The kernfs node of the task's cgroup and its id.
#[inline(always)]
pub(crate) fn of_task(task: u64) -> Option<(u64, u64)> {
    let css_set: u64 = read_field(task, offset!(task_cgroups))?;
    // On v2 not the controller's css, which is an ancestor's until some controller is enabled below the root.
    let cgroup: u64 = if setting!(cgroup) == CGROUP_V2 {
        read_field(css_set, offset!(css_set_dfl_cgrp))?
    } else {
        let css: u64 = read_field(css_set, offset!(css_set_perf_event))?;
        read_field(css, offset!(css_cgroup))?
    };
    let node: u64 = read_field(cgroup, offset!(cgroup_kn))?;
    let id: u64 = read_field(node, offset!(kernfs_id))?;
    Some((node, id))
}

/// Sends the cgroup's path the first time it is met.
#[inline(always)]
pub(crate) fn send_once(node: u64, cgroup_id: u64) {
    // SAFETY: the reference is dropped at once.
    if node == 0 || unsafe { CGROUPS_SENT.get(cgroup_id) }.is_some() {
        return;
    }
    let Some(event) = CGROUP_SCRATCH.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: a per-CPU value, and the program cannot be entered twice on one CPU.
    let event = unsafe { &mut *event };
    event.kind = EVENT_CGROUP;
    event.cgroup_id = cgroup_id;
    event.levels = walk(node, &mut event.names);
    if EVENTS.output::<abi::CgroupEvent>(&*event, u64::from(BPF_RB_FORCE_WAKEUP)).is_ok() {
        let _sent_again_if_this_fails = CGROUPS_SENT.insert(cgroup_id, 1u32, u64::from(BPF_ANY));
    } else {
        maps::count(Counter::CgroupNotSent);
    }
}

/// Copies names from the leaf upwards; the root's parent is null and its name empty.
#[inline(always)]
fn walk(leaf: u64, names: &mut [[u8; CGROUP_NAME_BYTES_MAX]; CGROUP_LEVELS_MAX]) -> u32 {
    let mut node = leaf;
    let mut levels = 0u32;
    for slot in names.iter_mut() {
        let Some(parent) = read_field::<u64>(node, offset!(kernfs_parent)) else {
            return levels;
        };
        if parent == 0 {
            return levels;
        }
        let Some(name) = read_field::<u64>(node, offset!(kernfs_name)) else {
            return levels;
        };
        // SAFETY: writes at most the slot's length; the helper checks the source address.
        let read = unsafe {
            bpf_probe_read_kernel_str(
                slot.as_mut_ptr().cast(),
                CGROUP_NAME_BYTES_MAX as u32,
                (name as usize) as *const _,
            )
        };
        // The slot still holds a name of another cgroup.
        if read < 0 {
            return levels;
        }
        levels += 1;
        node = parent;
    }
    match read_field::<u64>(node, offset!(kernfs_parent)) {
        Some(0) | None => levels,
        Some(_) => levels | CGROUP_RUNS_DEEPER,
    }
}
