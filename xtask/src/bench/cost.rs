//! What a running process costs: memory, CPU time, BPF maps and programs, all from /proc.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail};

use super::machine::{field, number};

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

/// A process at one moment.
#[derive(Debug, Clone)]
pub(super) struct Cost {
    pub(super) anonymous_rss_bytes: u64,
    /// User and kernel time of all threads, those that have ended included.
    pub(super) cpu_seconds: f64,
    pub(super) bpf: Bpf,
}

/// The maps and programs the process holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bpf {
    /// The sum of fdinfo's memlock, which is 0 for a ring buffer before Linux 6.12.
    pub(super) map_bytes: u64,
    pub(super) maps: usize,
    pub(super) run_time_ns: u64,
    /// How often a program was run.
    pub(super) runs: u64,
}

impl Cost {
    pub(super) fn of(pid: u32) -> Result<Self> {
        let proc = format!("/proc/{pid}");
        let rollup = read(&format!("{proc}/smaps_rollup"))?;
        let anonymous_kib = field(&rollup, "Anonymous").and_then(number);
        let Some(anonymous_kib) = anonymous_kib else { bail!("{proc}/smaps_rollup has no Anonymous") };
        let fds = fs::read_dir(format!("{proc}/fdinfo")).with_context(|| format!("{proc}/fdinfo"))?;
        // A descriptor that was closed meanwhile is none of the steady state.
        let infos = fds.flatten().filter_map(|fd| fs::read_to_string(fd.path()).ok());
        Ok(Self {
            anonymous_rss_bytes: anonymous_kib * 1024,
            cpu_seconds: cpu_seconds(&read(&format!("{proc}/stat"))?, ticks_per_second())?,
            bpf: bpf(infos),
        })
    }
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.to_owned())
}

fn ticks_per_second() -> u64 {
    // SAFETY: sysconf takes an integer and has no other effect.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).unwrap_or(100)
}

/// utime and stime are fields 14 and 15, counted from behind the name in parentheses.
fn cpu_seconds(stat: &str, ticks_per_second: u64) -> Result<f64> {
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let mut times = after_name.split(' ').skip(11).take(2).map(str::parse::<u64>);
    let (Some(Ok(user)), Some(Ok(system))) = (times.next(), times.next()) else {
        bail!("no times in {stat:?}");
    };
    #[allow(clippy::cast_precision_loss, reason = "a process runs for far less than 2^52 ticks")]
    Ok((user + system) as f64 / ticks_per_second as f64)
}

/// Adds up the descriptors; one map or program may be held by several.
fn bpf(infos: impl Iterator<Item = String>) -> Bpf {
    let (mut maps, mut programs) = (BTreeMap::new(), BTreeMap::new());
    for info in infos {
        let value = |key: &str| field(&info, key).and_then(number);
        if let Some(id) = value("map_id") {
            maps.insert(id, value("memlock").unwrap_or(0));
        } else if let Some(id) = value("prog_id")
            && field(&info, "prog_type").is_some()
        {
            programs.insert(id, (value("run_time_ns").unwrap_or(0), value("run_cnt").unwrap_or(0)));
        }
    }
    Bpf {
        map_bytes: maps.values().sum(),
        maps: maps.len(),
        run_time_ns: programs.values().map(|(ns, _)| ns).sum(),
        runs: programs.values().map(|&(_, runs)| runs).max().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_held_twice_is_counted_once() {
        let map = "pos:\t0\nmap_type:\t2\nmemlock:\t4096\nmap_id:\t7\n".to_owned();
        let program = |id: u32, ns: u32, runs: u32| {
            format!("prog_type:\t7\nmemlock:\t8192\nprog_id:\t{id}\nrun_time_ns:\t{ns}\nrun_cnt:\t{runs}\n")
        };
        // The entry runs at each tick; what it calls as a tail call counts its time apart.
        let infos = [map.clone(), map, program(1, 5000, 10), program(2, 300, 4), "pos:\t0\n".to_owned()];
        assert_eq!(bpf(infos.into_iter()), Bpf { map_bytes: 4096, maps: 1, run_time_ns: 5300, runs: 10 });
    }

    #[test]
    fn a_link_to_a_program_is_not_the_program() {
        let link = "link_type:\tperf_event\nlink_id:\t3\nprog_tag:\tab\nprog_id:\t1\n".to_owned();
        assert_eq!(bpf([link].into_iter()), Bpf::default());
    }

    #[test]
    fn times_are_found_behind_a_name_with_spaces_and_parentheses() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 100 0 0";
        assert!((cpu_seconds(stat, 100).unwrap() - 3.0).abs() < 1e-9);
        assert!(cpu_seconds("7 (a) S 1", 100).is_err());
    }

    #[test]
    fn this_process_has_a_cost() {
        let cost = Cost::of(std::process::id()).unwrap();
        assert!(cost.anonymous_rss_bytes > 0);
        assert_eq!(cost.bpf, Bpf::default());
    }
}
