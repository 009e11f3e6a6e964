//! What a running process costs: memory, CPU time, BPF maps and programs, all from /proc.

use std::collections::BTreeMap;
use std::{fs, iter};

use anyhow::{Context, Result, bail};

use super::machine::{field, number};
use crate::process;

/// BPF_PROG_TYPE_PERF_EVENT in <linux/bpf.h>.
const PERF_EVENT: u64 = 7;
const STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Turns the kernel's accounting of BPF run time on, and back to what it was when dropped.
#[derive(Debug)]
pub(super) struct BpfStats {
    before: String,
}

impl BpfStats {
    pub(super) fn enable() -> Result<Self> {
        let before = fs::read_to_string(STATS).context(STATS)?;
        fs::write(STATS, "1").context(STATS)?;
        Ok(Self { before })
    }
}

impl Drop for BpfStats {
    fn drop(&mut self) {
        if let Err(error) = fs::write(STATS, self.before.trim()) {
            eprintln!("cannot set {STATS} back to {}: {error}", self.before.trim());
        }
    }
}

/// A process and everything it has started, at one moment.
#[derive(Debug, Clone)]
pub(super) struct Cost {
    pub(super) anonymous_rss_bytes: u64,
    /// User and kernel time of all threads, and of the children that have ended.
    pub(super) cpu_seconds: f64,
    pub(super) bpf: Bpf,
}

/// The maps and programs the processes hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bpf {
    /// The sum of fdinfo's memlock, which is 0 for a ring buffer before Linux 6.12.
    pub(super) map_bytes: u64,
    pub(super) maps: usize,
    /// Of all programs together.
    pub(super) run_time_ns: u64,
    /// The program that runs at each tick of the clock. What it calls as a tail call is in its time: the kernel
    /// takes the time around the entry only.
    pub(super) entry: Entry,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) run_time_ns: u64,
    pub(super) runs: u64,
}

impl Cost {
    /// # Errors
    /// When the first process cannot be read; one of its descendants may end meanwhile.
    pub(super) fn of_tree(pid: u32) -> Result<Self> {
        let first = Process::read(pid)?;
        let descendants = process::descendants(pid).into_iter().filter_map(|pid| Process::read(pid).ok());
        let tree: Vec<Process> = iter::once(first).chain(descendants).collect();
        Ok(Self {
            anonymous_rss_bytes: tree.iter().map(|process| process.anonymous_rss_bytes).sum(),
            cpu_seconds: tree.iter().map(|process| process.cpu_seconds).sum(),
            bpf: bpf(tree.iter().flat_map(|process| &process.descriptors)),
        })
    }
}

struct Process {
    anonymous_rss_bytes: u64,
    cpu_seconds: f64,
    /// The text of each fdinfo file.
    descriptors: Vec<String>,
}

impl Process {
    fn read(pid: u32) -> Result<Self> {
        let proc = format!("/proc/{pid}");
        let rollup = read(&format!("{proc}/smaps_rollup"))?;
        let anonymous_kib = field(&rollup, "Anonymous").and_then(number);
        let Some(anonymous_kib) = anonymous_kib else { bail!("{proc}/smaps_rollup has no Anonymous") };
        let fds = fs::read_dir(format!("{proc}/fdinfo")).with_context(|| format!("{proc}/fdinfo"))?;
        Ok(Self {
            anonymous_rss_bytes: anonymous_kib * 1024,
            cpu_seconds: cpu_seconds(&read(&format!("{proc}/stat"))?, ticks_per_second())?,
            // A descriptor that was closed meanwhile is none of the steady state.
            descriptors: fds.flatten().filter_map(|fd| fs::read_to_string(fd.path()).ok()).collect(),
        })
    }
}

/// User and kernel time of a process and of all it has started.
///
/// # Errors
/// When the process cannot be read; one of its descendants may end meanwhile.
pub(super) fn cpu_seconds_of_tree(pid: u32) -> Result<f64> {
    let of = |pid: u32| cpu_seconds(&read(&format!("/proc/{pid}/stat"))?, ticks_per_second());
    Ok(of(pid)? + process::descendants(pid).into_iter().filter_map(|pid| of(pid).ok()).sum::<f64>())
}

/// How many processes and threads the machine has started since it booted.
pub(super) fn forks() -> Result<u64> {
    let stat = read("/proc/stat")?;
    forks_in(&stat).context("/proc/stat has no `processes`")
}

fn forks_in(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("processes ")).and_then(number)
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.to_owned())
}

fn ticks_per_second() -> u64 {
    // SAFETY: sysconf takes an integer and has no other effect.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).unwrap_or(100)
}

/// utime, stime, and those of children that have ended (cutime, cstime) are fields 14 to 17, counted from behind the
/// name in parentheses.
fn cpu_seconds(stat: &str, ticks_per_second: u64) -> Result<f64> {
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let times: Vec<u64> =
        after_name.split(' ').skip(11).take(4).filter_map(|word| word.parse().ok()).collect();
    if times.len() < 4 {
        bail!("no times in {stat:?}");
    }
    #[allow(clippy::cast_precision_loss, reason = "a process runs for far less than 2^52 ticks")]
    Ok(times.iter().sum::<u64>() as f64 / ticks_per_second as f64)
}

/// Adds up the descriptors; one map or program may be held by several.
fn bpf<'a>(infos: impl Iterator<Item = &'a String>) -> Bpf {
    let (mut maps, mut programs) = (BTreeMap::new(), BTreeMap::new());
    for info in infos {
        let value = |key: &str| field(info, key).and_then(number);
        if let Some(id) = value("map_id") {
            maps.insert(id, value("memlock").unwrap_or(0));
        } else if let (Some(id), Some(kind)) = (value("prog_id"), value("prog_type")) {
            let run_time_ns = value("run_time_ns").unwrap_or(0);
            programs.insert(id, (kind, Entry { run_time_ns, runs: value("run_cnt").unwrap_or(0) }));
        }
    }
    let ticked = programs.values().filter(|(kind, _)| *kind == PERF_EVENT).map(|&(_, program)| program);
    Bpf {
        map_bytes: maps.values().sum(),
        maps: maps.len(),
        run_time_ns: programs.values().map(|(_, program)| program.run_time_ns).sum(),
        // Those that are only called as a tail call count no runs of their own.
        entry: ticked.max_by_key(|program| program.runs).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(kind: u64, id: u32, ns: u32, runs: u32) -> String {
        format!("prog_type:\t{kind}\nmemlock:\t8192\nprog_id:\t{id}\nrun_time_ns:\t{ns}\nrun_cnt:\t{runs}\n")
    }

    #[test]
    fn a_map_held_twice_is_counted_once() {
        let map = "pos:\t0\nmap_type:\t2\nmemlock:\t4096\nmap_id:\t7\n".to_owned();
        let infos = [map.clone(), map, "pos:\t0\n".to_owned()];
        assert_eq!(bpf(infos.iter()), Bpf { map_bytes: 4096, maps: 1, ..Bpf::default() });
    }

    #[test]
    fn the_entry_is_the_perf_event_program_that_runs() {
        let tracepoint_that_runs_more_often = program(5, 3, 700, 40);
        let infos = [
            program(PERF_EVENT, 1, 0, 0),
            program(PERF_EVENT, 2, 5000, 10),
            tracepoint_that_runs_more_often,
            program(PERF_EVENT, 2, 5000, 10),
        ];
        let found = bpf(infos.iter());
        assert_eq!(found.entry, Entry { run_time_ns: 5000, runs: 10 });
        assert_eq!(found.run_time_ns, 5700);
    }

    #[test]
    fn a_link_to_a_program_is_not_the_program() {
        let link = "link_type:\tperf_event\nlink_id:\t3\nprog_tag:\tab\nprog_id:\t1\n".to_owned();
        assert_eq!(bpf([link].iter()), Bpf::default());
    }

    #[test]
    fn times_are_found_behind_a_name_with_spaces_and_parentheses() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 30 20 20 0 3 0 100 0 0";
        assert!((cpu_seconds(stat, 100).unwrap() - 3.5).abs() < 1e-9);
        assert!(cpu_seconds("7 (a) S 1", 100).is_err());
    }

    #[test]
    fn the_machines_forks_are_found() {
        assert_eq!(forks_in("cpu 1 2\nctxt 9\nprocesses 4321\nprocs_running 2\n"), Some(4321));
        assert_eq!(forks_in("cpu 1 2\n"), None);
    }

    #[test]
    fn a_child_is_part_of_the_tree() {
        let child = process::Server::start(std::process::Command::new("sleep").arg("600")).unwrap();
        let alone = Process::read(child.pid()).unwrap();
        let tree = Cost::of_tree(std::process::id()).unwrap();
        assert!(alone.anonymous_rss_bytes > 0);
        assert!(tree.anonymous_rss_bytes > alone.anonymous_rss_bytes);
        assert_eq!(tree.bpf, Bpf::default());
    }
}
