//! The capabilities that profiling uses, what for, and which this process has.

use std::fmt;
use std::fs;

/// A capability of include/uapi/linux/capability.h; the value is its bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    SysPtrace = 19,
    SysAdmin = 21,
    SysResource = 24,
    Syslog = 34,
    Perfmon = 38,
    Bpf = 39,
    CheckpointRestore = 40,
}

/// The effective set of this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Capabilities(u64);

impl Capability {
    /// Name as the manual pages write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysResource => "CAP_SYS_RESOURCE",
            Self::Syslog => "CAP_SYSLOG",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
            Self::CheckpointRestore => "CAP_CHECKPOINT_RESTORE",
        }
    }

    /// Name as a Kubernetes security context writes it.
    pub fn kubernetes_name(self) -> &'static str {
        self.name().trim_start_matches("CAP_")
    }

    /// What kovar does with it.
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::SysPtrace => "reads other users' /proc/PID/maps and files",
            Self::SysAdmin => "stands for several of the others",
            Self::SysResource => "raises RLIMIT_MEMLOCK on kernels before 5.11",
            Self::Syslog => "reads kernel symbol addresses",
            Self::Perfmon => "samples every CPU",
            Self::Bpf => "loads the kernel programs",
            Self::CheckpointRestore => "opens mapped files through /proc/PID/map_files",
        }
    }

    pub(crate) const fn remedy(self) -> &'static str {
        match self {
            Self::SysPtrace => "run as root or add CAP_SYS_PTRACE",
            Self::SysAdmin => "run as root or add CAP_SYS_ADMIN",
            Self::SysResource => {
                "run as root or add CAP_SYS_RESOURCE, or raise the memlock limit before the start"
            }
            Self::Syslog => "run as root or add CAP_SYSLOG",
            Self::Perfmon => "run as root or add CAP_PERFMON",
            Self::Bpf => "run as root or add CAP_BPF",
            Self::CheckpointRestore => "run as root or add CAP_CHECKPOINT_RESTORE",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl Capabilities {
    /// What `/proc/self/status` says; nothing when it cannot be read.
    pub(crate) fn effective() -> Self {
        Self::parse(&fs::read_to_string("/proc/self/status").unwrap_or_default())
    }

    pub(crate) fn has(self, capability: Capability) -> bool {
        self.0 >> (capability as u32) & 1 == 1
    }

    fn parse(status: &str) -> Self {
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        Self(line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_capability_is_its_own_bit_of_the_effective_set() {
        let have = Capabilities::parse("Name:\tx\nCapPrm:\tffffffffffffffff\nCapEff:\t000000c000080000\n");
        assert!(
            have.has(Capability::Bpf) && have.has(Capability::Perfmon) && have.has(Capability::SysPtrace)
        );
        assert!(!have.has(Capability::SysAdmin) && !have.has(Capability::CheckpointRestore));
        assert!(!Capabilities::parse("").has(Capability::Bpf));
    }
}
