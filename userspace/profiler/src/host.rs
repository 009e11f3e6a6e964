//! What this host gives the profiler and what it lacks: probed by doing, and refusals put in words.

mod capability;
mod refusal;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub use capability::Capability;
pub(crate) use refusal::{load_error, perf_open_error, program_error};

use crate::clock::Clock;
use crate::sampler::Sampler;
use crate::{Config, Error, Only, btf};
use capability::Capabilities;

/// The oldest kernel with a BPF ring buffer is 5.8; 5.10 is the oldest that is tested.
const KERNEL_MIN: (u32, u32) = (5, 10);
/// Since this version BPF memory is charged to the memory cgroup, not to RLIMIT_MEMLOCK.
const KERNEL_MEMCG: (u32, u32) = (5, 11);
/// PROC_PID_INIT_INO of include/linux/proc_ns.h.
const INIT_PID_NAMESPACE: u64 = 0xEFFF_FFFC;
/// PF_KTHREAD and PF_IO_WORKER of include/linux/sched.h.
const PF_KTHREAD: u32 = 0x0020_0000;
const PF_IO_WORKER: u32 = 0x0000_0010;
/// PF_USER_WORKER, since 6.4; before, the same bit meant something else.
const PF_USER_WORKER: u32 = 0x0000_4000;

/// The result of probing.
#[derive(Debug, Clone, Default)]
pub struct Host {
    findings: Vec<Finding>,
}

/// One thing that was probed.
#[derive(Debug, Clone)]
pub struct Finding {
    pub name: &'static str,
    pub state: State,
    pub detail: String,
    pub remedy: Option<String>,
}

/// How a probed thing does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Works,
    /// Profiling works with less.
    Degraded,
    /// Profiling cannot work.
    Missing,
}

impl Host {
    /// Probes the host by doing: opens an event, loads the sampler, and leaves nothing behind.
    pub fn probe() -> Self {
        let mut findings = vec![kernel(), types()];
        findings.extend(capabilities());
        findings.extend([paranoid(), sampler(), kernel_symbols(), cgroups(), pid_namespace()]);
        Self { findings }
    }

    /// What was found, in the order it was probed.
    pub fn findings(&self) -> Vec<Finding> {
        self.findings.clone()
    }
}

/// Refuses early, naming every missing capability, what the kernel would refuse with EPERM.
pub(crate) fn require() -> Result<(), Error> {
    let have = Capabilities::effective();
    let missing: Vec<Capability> = [Capability::Bpf, Capability::Perfmon]
        .into_iter()
        .filter(|needed| !have.has(*needed) && !have.has(Capability::SysAdmin))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = |of: fn(&Capability) -> String| missing.iter().map(of).collect::<Vec<_>>();
    Err(Error::Privilege(format!(
        "kovar lacks {}; run it as root, or give it what it lacks \
         (systemd: AmbientCapabilities={}; Kubernetes: securityContext.capabilities.add: [{}])",
        list(|it| format!("{it} ({})", it.purpose())).join(" and "),
        list(|it| it.to_string()).join(" "),
        list(|it| it.kubernetes_name().to_owned()).join(", "),
    )))
}

/// PF_* bits of tasks that never run user code, on this kernel.
pub(crate) fn no_user_stack_flags() -> u32 {
    let user_worker = if kernel_version() >= (6, 4) { PF_USER_WORKER } else { 0 };
    PF_KTHREAD | PF_IO_WORKER | user_worker
}

/// Whether the task is a kernel thread.
pub(crate) fn is_kernel_thread(task_flags: u32) -> bool {
    task_flags & PF_KTHREAD != 0
}

/// Tries to lift RLIMIT_MEMLOCK; kernels since 5.11 do not charge it, so failing is no error.
pub(crate) fn raise_memlock_limit() {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: a complete rlimit.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
}

/// Lifts the soft limit of open files to the hard one: executables are held open.
pub(crate) fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a complete rlimit, written and then read by the kernel; failing leaves the limit as it was.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// Files this process may have open; 0 when the kernel does not say.
pub(crate) fn file_limit() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a complete rlimit, written by the kernel; failing leaves it as it is.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}

/// Major and minor of the running kernel; (0, 0) when uname says something else.
pub(crate) fn kernel_version() -> (u32, u32) {
    parse_version(&fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default())
}

/// Whether BPF maps are charged to RLIMIT_MEMLOCK here.
pub(crate) fn charges_memlock() -> bool {
    kernel_version() < KERNEL_MEMCG
}

fn parse_version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn finding(name: &'static str, state: State, detail: impl Into<String>, remedy: Option<&str>) -> Finding {
    Finding { name, state, detail: detail.into(), remedy: remedy.map(str::to_owned) }
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let state = if parse_version(&release) >= KERNEL_MIN { State::Works } else { State::Missing };
    let remedy = (state == State::Missing).then_some("a kernel of 5.10 or later");
    finding("kernel", state, release.trim(), remedy)
}

fn types() -> Finding {
    match btf::read() {
        Ok(btf::Facts { cgroup_missing: None, .. }) => finding(
            "kernel types",
            State::Works,
            format!("{} has every field that is read", btf::BTF_PATH),
            None,
        ),
        Ok(btf::Facts { cgroup_missing: Some(field), .. }) => finding(
            "kernel types",
            State::Degraded,
            format!("no {field}: samples carry no container"),
            Some("a kernel with CONFIG_CGROUP_PERF"),
        ),
        Err(error) => finding("kernel types", State::Missing, error.to_string(), None),
    }
}

fn capabilities() -> Vec<Finding> {
    let have = Capabilities::effective();
    let admin = have.has(Capability::SysAdmin);
    let of = |capability: Capability, held: bool, otherwise: State, without: &str| {
        if held {
            finding(capability.name(), State::Works, capability.purpose(), None)
        } else {
            finding(capability.name(), otherwise, without, Some(capability.remedy()))
        }
    };
    let mut findings = vec![
        of(Capability::Bpf, admin || have.has(Capability::Bpf), State::Missing, "programs cannot be loaded"),
        of(
            Capability::Perfmon,
            admin || have.has(Capability::Perfmon),
            State::Missing,
            "CPUs cannot be sampled",
        ),
        of(
            Capability::SysPtrace,
            have.has(Capability::SysPtrace),
            State::Degraded,
            "other users' processes have no user symbols",
        ),
        of(
            Capability::CheckpointRestore,
            admin || have.has(Capability::CheckpointRestore),
            State::Degraded,
            "deleted binaries have no symbols: /proc/PID/map_files is closed",
        ),
        of(Capability::Syslog, have.has(Capability::Syslog), State::Degraded, "see kernel symbols"),
    ];
    if charges_memlock() {
        findings.push(of(
            Capability::SysResource,
            have.has(Capability::SysResource),
            State::Missing,
            "this kernel (before 5.11) charges BPF maps to RLIMIT_MEMLOCK, which cannot be raised without it",
        ));
    }
    findings
}

fn paranoid() -> Finding {
    let level = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    let level = level.trim();
    match Clock::probe() {
        Ok(()) => {
            finding("perf events", State::Works, format!("kernel.perf_event_paranoid is {level}"), None)
        }
        Err(error) => finding("perf events", State::Missing, error.to_string(), None),
    }
}

fn sampler() -> Finding {
    let config = Config {
        rate_hz: 1,
        kernel: true,
        user: true,
        drain_interval_ms: 1000,
        push_interval_ms: 15_000,
        tables_max_bytes: 1 << 20,
        only: Only::Everything,
    };
    match Sampler::load(&config, false) {
        Ok(_) => finding("sampler", State::Works, "loads on this kernel", None),
        Err(error) => finding("sampler", State::Missing, error.to_string(), None),
    }
}

fn kernel_symbols() -> Finding {
    let shown = fs::File::open("/proc/kallsyms").ok().and_then(|file| {
        use std::io::{BufRead, BufReader};
        let mut lines = BufReader::new(file).lines().take(64).map_while(Result::ok);
        lines.any(|line| !line.starts_with("0000000000000000")).then_some(())
    });
    let restrict = fs::read_to_string("/proc/sys/kernel/kptr_restrict").unwrap_or_default();
    let restrict = restrict.trim();
    match shown {
        Some(()) => {
            finding("kernel symbols", State::Works, format!("kernel.kptr_restrict is {restrict}"), None)
        }
        None => finding(
            "kernel symbols",
            State::Degraded,
            format!(
                "/proc/kallsyms shows no addresses (kernel.kptr_restrict is {restrict}): kernel frames have no names"
            ),
            Some(
                "give CAP_SYSLOG, or sysctl kernel.kptr_restrict=0 with kernel.perf_event_paranoid at most 1; kptr_restrict 2 hides them from everyone",
            ),
        ),
    }
}

fn cgroups() -> Finding {
    let lines = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let unified = lines.lines().any(|line| line.starts_with("0::"));
    let legacy = lines.lines().any(|line| !line.starts_with("0::"));
    let kind = match (unified, legacy) {
        (true, false) => "v2",
        (true, true) => "hybrid (v1 controllers and a v2 hierarchy)",
        (false, true) => "v1",
        (false, false) => {
            return finding("cgroups", State::Degraded, "none mounted: samples carry no container", None);
        }
    };
    finding("cgroups", State::Works, kind, None)
}

/// Inode number of this process's PID namespace, 0 for the initial one. When it cannot be read, a number
/// that no namespace has: no process is then taken for another.
pub(crate) fn pid_namespace_inum() -> u32 {
    match fs::metadata(Path::new("/proc/self/ns/pid")).map(|meta| meta.ino()) {
        Ok(INIT_PID_NAMESPACE) => 0,
        Ok(inum) => inum as u32,
        Err(_) => u32::MAX,
    }
}

/// The hierarchy whose cgroup names the container: that of perf_event, which is v2's unless v1 has it.
pub(crate) fn cgroup_hierarchy() -> u32 {
    let lines = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    if has_v1_perf_event(&lines) { abi::CGROUP_PERF_EVENT } else { abi::CGROUP_V2 }
}

/// `4:cpu,perf_event:/path` (cgroups(7)).
fn has_v1_perf_event(lines: &str) -> bool {
    let controllers = |line: &str| line.split(':').nth(1).map(str::to_owned).unwrap_or_default();
    lines.lines().any(|line| controllers(line).split(',').any(|controller| controller == "perf_event"))
}

fn pid_namespace() -> Finding {
    if pid_namespace_inum() == 0 {
        return finding("PID namespace", State::Works, "the host's own", None);
    }
    finding(
        "PID namespace",
        State::Degraded,
        "not the host's: user frames of processes outside it have no names",
        Some("hostPID: true in Kubernetes, --pid=host in Docker"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perf_event_is_found_among_the_controllers_of_v1_alone() {
        assert!(has_v1_perf_event("5:cpu,perf_event:/docker/x\n0::/\n"));
        assert!(!has_v1_perf_event("5:cpu:/perf_event\n0::/perf_event\n"));
    }

    #[test]
    fn kernel_releases_of_distributions_are_read() {
        assert_eq!(parse_version("5.10.0-32-cloud-amd64\n"), (5, 10));
        assert_eq!(parse_version("6.18.44-custom"), (6, 18));
        assert_eq!(parse_version("7.2"), (7, 2));
        assert_eq!(parse_version(""), (0, 0));
    }
}
