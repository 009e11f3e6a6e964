//! What of this host no package can give: root, BTF, cgroups.

use std::fs;
use std::path::Path;

const BTF: &str = "/sys/kernel/btf/vmlinux";

pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// What keeps kovar from profiling here, one sentence each.
pub(crate) fn problems() -> Vec<String> {
    let mut problems = Vec::new();
    if !is_root() {
        problems
            .push("you are not root; `cargo xtask run` and the kernel tests need it (sudo -E)".to_owned());
    }
    if !Path::new(BTF).exists() {
        problems.push(format!("{BTF} is missing; the kernel was built without CONFIG_DEBUG_INFO_BTF"));
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    if !mounts.lines().any(|line| line.split(' ').nth(2).is_some_and(|kind| kind.starts_with("cgroup"))) {
        problems.push("no cgroup hierarchy is mounted; samples will carry no container".to_owned());
    }
    problems
}
