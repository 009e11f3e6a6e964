//! Field offsets of this kernel's structs, from its BTF.

use std::path::Path;

use abi::Offsets;
use libbpf_rs::btf::types::{Composite, Enum, MemberAttr, Struct};
use libbpf_rs::{Btf, HasSize as _};

use crate::Error;

/// Where the kernel publishes its own types (CONFIG_DEBUG_INFO_BTF).
pub(crate) const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";
/// Number of the helper in include/uapi/linux/bpf.h.
const FUNC_TASK_PT_REGS: u32 = 175;
/// THREAD_SIZE of x86-64 and of arm64, which has a page where that is larger.
const THREAD_BYTES: u32 = 16 << 10;
/// Anonymous structs nest at most this deep in the structs read here.
const NESTING_MAX: usize = 8;

/// What was read, and what was not there.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) offsets: Offsets,
    /// The first fact that the cgroup id needs and that is missing.
    pub(crate) cgroup_missing: Option<String>,
    /// The first fact that translating process ids needs and that is missing.
    pub(crate) pid_namespace_missing: Option<String>,
    /// The first fact that comparing a process's executable pages with its layout needs and that is missing.
    pub(crate) exec_pages_missing: Option<String>,
    /// The first fact that the user registers of a thread in the kernel need and that is missing.
    pub(crate) registers_missing: Option<String>,
    /// Whether the helper `bpf_task_pt_regs` exists.
    pub(crate) has_task_pt_regs: bool,
}

/// Reads all offsets. A missing identity fact is an error; a missing cgroup fact turns cgroups off.
pub(crate) fn read() -> Result<Facts, Error> {
    if !Path::new(BTF_PATH).exists() {
        return Err(Error::Kernel(format!(
            "{BTF_PATH} does not exist: the kernel was built without CONFIG_DEBUG_INFO_BTF; \
             distribution kernels have it since 2020 (Debian 11, Ubuntu 20.10, RHEL 8.2)"
        )));
    }
    let btf = Btf::from_path(BTF_PATH)
        .map_err(|error| Error::Kernel(format!("cannot read the kernel's types in {BTF_PATH}: {error}")))?;
    let mut offsets = Offsets {
        task_group_leader: required(&btf, "task_struct", &["group_leader"])?,
        task_flags: required(&btf, "task_struct", &["flags"])?,
        task_start_time: required(&btf, "task_struct", &["start_time"])?,
        task_self_exec_id: required(&btf, "task_struct", &["self_exec_id"])?,
        task_comm: required(&btf, "task_struct", &["comm"])?,
        ..Offsets::default()
    };
    let cgroup_missing = cgroup_offsets(&btf, &mut offsets).err();
    let pid_namespace_missing = pid_namespace_offsets(&btf, &mut offsets).err();
    let exec_pages_missing = exec_pages_offsets(&btf, &mut offsets).err();
    // Distributions add helpers to older kernels, so the version says nothing.
    let has_task_pt_regs =
        enum_value(&btf, "bpf_func_id", "BPF_FUNC_task_pt_regs") == Some(FUNC_TASK_PT_REGS);
    let registers_missing = if has_task_pt_regs { None } else { registers_offsets(&btf, &mut offsets).err() };
    Ok(Facts {
        offsets,
        cgroup_missing,
        pid_namespace_missing,
        exec_pages_missing,
        registers_missing,
        has_task_pt_regs,
    })
}

fn exec_pages_offsets(btf: &Btf<'_>, offsets: &mut Offsets) -> Result<(), String> {
    offsets.task_mm = member(btf, "task_struct", &["mm"]).ok_or("task_struct.mm")?;
    // Without it a sample inside exec may be taken for one of the program before.
    (offsets.task_in_execve, offsets.in_execve_mask) =
        bit(btf, "task_struct", "in_execve").unwrap_or_default();
    // Only helps to tell startup code from other code without rows.
    offsets.mm_start_stack = member(btf, "mm_struct", &["start_stack"]).unwrap_or(0);
    offsets.mm_exec_vm = member(btf, "mm_struct", &["exec_vm"]).ok_or("mm_struct.exec_vm")?;
    Ok(())
}

/// `pt_regs` ends where the kernel stack ends, on x86-64 and arm64 of kernels before 5.15 (`task_pt_regs` in
/// their asm/processor.h; TOP_OF_KERNEL_STACK_PADDING is 0 there).
fn registers_offsets(btf: &Btf<'_>, offsets: &mut Offsets) -> Result<(), String> {
    offsets.task_stack = member(btf, "task_struct", &["stack"]).ok_or("task_struct.stack")?;
    let pt_regs: Struct<'_> = btf.type_by_name("pt_regs").ok_or("pt_regs")?;
    // SAFETY: takes a number, gives one.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let stack_bytes = THREAD_BYTES.max(u32::try_from(page_bytes).unwrap_or(0));
    offsets.stack_pt_regs = stack_bytes.saturating_sub(pt_regs.size() as u32);
    Ok(())
}

fn cgroup_offsets(btf: &Btf<'_>, offsets: &mut Offsets) -> Result<(), String> {
    let find = |structure: &'static str, names: &[&'static str]| {
        member(btf, structure, names).ok_or_else(|| format!("{structure}.{}", names[0]))
    };
    let index = enum_value(btf, "cgroup_subsys_id", "perf_event_cgrp_id")
        .ok_or_else(|| "cgroup_subsys_id.perf_event_cgrp_id (CONFIG_CGROUP_PERF)".to_owned())?;
    offsets.task_cgroups = find("task_struct", &["cgroups"])?;
    offsets.css_set_perf_event = find("css_set", &["subsys"])? + index * size_of::<u64>() as u32;
    offsets.css_set_dfl_cgrp = find("css_set", &["dfl_cgrp"])?;
    offsets.css_cgroup = find("cgroup_subsys_state", &["cgroup"])?;
    offsets.cgroup_kn = find("cgroup", &["kn"])?;
    offsets.kernfs_id = find("kernfs_node", &["id"])?;
    offsets.kernfs_name = find("kernfs_node", &["name"])?;
    offsets.kernfs_parent = find("kernfs_node", &["parent", "__parent"])?;
    Ok(())
}

fn pid_namespace_offsets(btf: &Btf<'_>, offsets: &mut Offsets) -> Result<(), String> {
    let find = |structure: &'static str, name: &'static str| {
        member(btf, structure, &[name]).ok_or_else(|| format!("{structure}.{name}"))
    };
    offsets.task_thread_pid = find("task_struct", "thread_pid")?;
    offsets.pid_level = find("pid", "level")?;
    offsets.pid_numbers = find("pid", "numbers")?;
    offsets.upid_nr = find("upid", "nr")?;
    offsets.upid_ns = find("upid", "ns")?;
    offsets.upid_bytes =
        btf.type_by_name::<Struct<'_>>("upid").map(|upid| upid.size() as u32).ok_or("upid")?;
    offsets.pid_namespace_inum = find("pid_namespace", "ns")? + find("ns_common", "inum")?;
    Ok(())
}

fn required(btf: &Btf<'_>, structure: &'static str, names: &[&'static str]) -> Result<u32, Error> {
    member(btf, structure, names).ok_or_else(|| {
        Error::Kernel(format!(
            "this kernel's types have no {structure}.{}: its layout is not known",
            names[0]
        ))
    })
}

/// Byte offset of the first of `names` that the struct has; renames are tried in order.
fn member(btf: &Btf<'_>, structure: &str, names: &[&str]) -> Option<u32> {
    let structure: Struct<'_> = btf.type_by_name(structure)?;
    names.iter().find_map(|name| member_bits(btf, &Composite::from(structure), name, 0)).map(|bits| bits / 8)
}

/// Byte and mask of a field of one bit.
fn bit(btf: &Btf<'_>, structure: &str, name: &str) -> Option<(u32, u32)> {
    let structure: Struct<'_> = btf.type_by_name(structure)?;
    let bits = member_bits(btf, &Composite::from(structure), name, 0)?;
    Some((bits / 8, 1 << (bits % 8)))
}

/// Fields of anonymous structs and unions count as the outer struct's own, as in C.
fn member_bits(btf: &Btf<'_>, composite: &Composite<'_>, name: &str, depth: usize) -> Option<u32> {
    if depth > NESTING_MAX {
        return None;
    }
    for member in composite.iter() {
        let (MemberAttr::Normal { offset } | MemberAttr::BitField { offset, .. }) = member.attr;
        match member.name {
            Some(found) if !found.is_empty() => {
                if found == name {
                    return Some(offset);
                }
            }
            _ => {
                let inner =
                    btf.type_by_id::<libbpf_rs::btf::BtfType<'_>>(member.ty)?.skip_mods_and_typedefs();
                if let Ok(inner) = Composite::try_from(inner)
                    && let Some(bits) = member_bits(btf, &inner, name, depth + 1)
                {
                    return Some(offset + bits);
                }
            }
        }
    }
    None
}

fn enum_value(btf: &Btf<'_>, name: &str, variant: &str) -> Option<u32> {
    let enumeration: Enum<'_> = btf.type_by_name(name)?;
    let member = enumeration.iter().find(|member| member.name.is_some_and(|found| found == variant))?;
    u32::try_from(member.value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_the_running_kernel_are_distinct_and_inside_the_struct() {
        if !Path::new(BTF_PATH).exists() {
            println!("skipped: offsets_of_the_running_kernel: {BTF_PATH} does not exist");
            return;
        }
        let facts = read().unwrap();
        let offsets = facts.offsets;
        assert_eq!((facts.cgroup_missing, facts.pid_namespace_missing), (None, None));
        assert_eq!((facts.exec_pages_missing, facts.registers_missing), (None, None));
        assert!(
            offsets.task_mm > 0
                && offsets.mm_exec_vm > 0
                && offsets.mm_start_stack > 0
                && offsets.in_execve_mask > 0
                && offsets.task_mm != offsets.task_comm
        );
        let task = [
            offsets.task_group_leader,
            offsets.task_start_time,
            offsets.task_self_exec_id,
            offsets.task_comm,
        ];
        for (index, offset) in task.iter().enumerate() {
            assert!(*offset > 0 && *offset < 16384, "offset {offset}");
            assert!(!task[..index].contains(offset));
        }
    }

    #[test]
    fn a_helper_is_found_by_its_number_and_the_stack_ends_with_the_registers() {
        if !Path::new(BTF_PATH).exists() {
            println!("skipped: a_helper_is_found_by_its_number: {BTF_PATH} does not exist");
            return;
        }
        let facts = read().unwrap();
        assert_eq!(facts.has_task_pt_regs, crate::host::kernel_version() >= (5, 15));
        let mut offsets = Offsets::default();
        registers_offsets(&Btf::from_path(BTF_PATH).unwrap(), &mut offsets).unwrap();
        assert!(offsets.task_stack > 0);
        assert!(cfg!(not(target_arch = "x86_64")) || offsets.stack_pt_regs == 16_384 - 168);
    }
}
