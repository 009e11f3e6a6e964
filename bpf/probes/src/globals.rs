//! Read-only globals, set by user space before the load; the verifier sees them as constants.

use abi::{Offsets, Settings};

#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets {
    task_group_leader: 0,
    task_flags: 0,
    task_start_time: 0,
    task_self_exec_id: 0,
    task_comm: 0,
    task_cgroups: 0,
    css_set_perf_event: 0,
    css_set_dfl_cgrp: 0,
    css_cgroup: 0,
    cgroup_kn: 0,
    kernfs_id: 0,
    kernfs_name: 0,
    kernfs_parent: 0,
    task_thread_pid: 0,
    pid_level: 0,
    pid_numbers: 0,
    upid_nr: 0,
    upid_ns: 0,
    upid_bytes: 0,
    pid_namespace_inum: 0,
    task_in_execve: 0,
    in_execve_mask: 0,
    task_mm: 0,
    mm_exec_vm: 0,
    mm_start_stack: 0,
    task_stack: 0,
    stack_pt_regs: 0,
};

#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings {
    kernel: 0,
    user: 0,
    no_user_stack_flags: 0,
    cgroup: 0,
    wakeup_bytes: 0,
    pid_namespace_inum: 0,
    unwind: 0,
    has_task_pt_regs: 0,
    checks_exec_pages: 0,
};

/// One offset, read so that the compiler cannot take the zero of the object file for it.
macro_rules! offset {
    ($field:ident) => {
        // SAFETY: a valid static; volatile because user space rewrites it before the load.
        (unsafe { core::ptr::read_volatile(&raw const $crate::globals::offsets().$field) }) as usize
    };
}

/// One setting, read as [`offset`].
macro_rules! setting {
    ($field:ident) => {
        // SAFETY: a valid static; volatile because user space rewrites it before the load.
        unsafe { core::ptr::read_volatile(&raw const $crate::globals::settings().$field) }
    };
}

pub(crate) use {offset, setting};

#[inline(always)]
pub(crate) fn offsets() -> &'static Offsets {
    &OFFSETS
}

#[inline(always)]
pub(crate) fn settings() -> &'static Settings {
    &SETTINGS
}
