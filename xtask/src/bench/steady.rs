//! One measurement: what a running profiler costs from the end of its warm-up on.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::cost::{self, Cost};
use super::load::{self, Load};
use crate::lab;
use crate::process::Server;

const REPORT_INTERVAL: Duration = Duration::from_secs(15);
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How long a profiler may load its programs, on a machine with every CPU busy, before the warm-up begins.
pub(super) const READY_LIMIT: Duration = Duration::from_secs(120);
/// Of the processes that a load starts, as many must be seen, or it was not the load it says it is.
const STARTED_MIN: f64 = 0.9;

/// How long is measured, and how long symbols, caches and maps may fill before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) warm_up: Duration,
    pub(super) measured: Duration,
}

/// From one time of CLOCK_MONOTONIC up to another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    from: Duration,
    to: Duration,
}

impl Window {
    pub(super) fn contains(&self, at: Duration) -> bool {
        self.from <= at && at < self.to
    }
}

#[derive(Debug, Clone)]
pub(super) struct Moment {
    /// By CLOCK_MONOTONIC.
    pub(super) at: Duration,
    pub(super) cost: Cost,
    /// Processes and threads the machine has started.
    pub(super) forks: u64,
}

impl Moment {
    fn of(pid: u32) -> Result<Self> {
        Ok(Self { at: monotonic()?, cost: Cost::of_tree(pid)?, forks: cost::forks()? })
    }
}

/// What was seen at both ends.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub(super) before: Moment,
    pub(super) after: Moment,
    /// How many samples were taken meanwhile.
    pub(super) samples: u64,
}

#[allow(clippy::cast_precision_loss, reason = "counts and nanoseconds of a run of minutes")]
impl Measured {
    pub(super) fn window(&self) -> Window {
        Window { from: self.before.at, to: self.after.at }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.after.at.saturating_sub(self.before.at)
    }

    pub(super) fn cpu_seconds_per_minute(&self) -> f64 {
        self.per_minute(self.after.cost.cpu_seconds - self.before.cost.cpu_seconds)
    }

    /// Of all its BPF programs together; None when it has none.
    pub(super) fn bpf_seconds_per_minute(&self) -> Option<f64> {
        let (before, after) = (&self.before.cost.bpf, &self.after.cost.bpf);
        let run_time_ns = after.run_time_ns.saturating_sub(before.run_time_ns);
        (self.runs() > 0).then(|| self.per_minute(run_time_ns as f64 / 1e9))
    }

    /// Of the program that runs at each tick; None when there is none.
    pub(super) fn ns_per_sample(&self) -> Option<u64> {
        let (before, after) = (self.before.cost.bpf.entry, self.after.cost.bpf.entry);
        after.run_time_ns.saturating_sub(before.run_time_ns).checked_div(self.runs())
    }

    pub(super) fn forks_per_second(&self) -> f64 {
        let forks = self.after.forks.saturating_sub(self.before.forks);
        forks as f64 / self.elapsed().as_secs_f64()
    }

    fn runs(&self) -> u64 {
        self.after.cost.bpf.entry.runs.saturating_sub(self.before.cost.bpf.entry.runs)
    }

    fn per_minute(&self, total: f64) -> f64 {
        total * 60.0 / self.elapsed().as_secs_f64()
    }

    /// # Errors
    /// When the load was not the one it should have been.
    pub(super) fn check(&self, load: Load) -> Result<()> {
        let (wanted, seen) = (f64::from(load.starts_per_second()), self.forks_per_second());
        if seen < wanted * STARTED_MIN {
            bail!("the machine started {seen:.0} processes a second, {} should start {wanted}", load.name());
        }
        Ok(())
    }
}

/// Waits until the profiler's program has run once.
pub(super) fn wait_first_run(profiler: &mut Server, load: &mut load::Running) -> Result<()> {
    let start = Instant::now();
    while Cost::of_tree(profiler.pid())?.bpf.entry.runs == 0 {
        if start.elapsed() > READY_LIMIT {
            bail!("no program of it has run after {} s", READY_LIMIT.as_secs());
        }
        poll("loading", profiler, load)?;
    }
    Ok(())
}

/// Measures a profiler that is sampling.
pub(super) fn measure(profiler: &mut Server, load: &mut load::Running, times: Times) -> Result<Measured> {
    pass("warming up", profiler, load, times.warm_up)?;
    let before = Moment::of(profiler.pid())?;
    pass("measuring", profiler, load, times.measured)?;
    let after = Moment::of(profiler.pid())?;
    let mut measured = Measured { before, after, samples: 0 };
    measured.samples = measured.runs();
    Ok(measured)
}

/// Lets time pass while both live.
fn pass(what: &str, profiler: &mut Server, load: &mut load::Running, time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    let mut report = Instant::now();
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        if Instant::now() >= report {
            eprintln!("  {what}: {} s left", left.as_secs());
            report += REPORT_INTERVAL;
        }
        poll(what, profiler, load)?;
    }
    Ok(())
}

fn poll(what: &str, profiler: &mut Server, load: &mut load::Running) -> Result<()> {
    thread::sleep(POLL_INTERVAL);
    if lab::is_told() {
        bail!("told to stop while {what}");
    }
    if let Some(status) = profiler.exited() {
        bail!("it ended while {what} ({status})");
    }
    load.check()
}

fn monotonic() -> Result<Duration> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that outlives the call.
    if unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) } != 0 {
        return Err(std::io::Error::last_os_error()).context("CLOCK_MONOTONIC");
    }
    Ok(Duration::new(u64::try_from(now.tv_sec)?, u32::try_from(now.tv_nsec)?))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::cost::{Bpf, Entry};
    use super::*;

    /// Two minutes with 20 MiB of maps, 30 MiB of memory, 100 samples of 5 us, and 60 forks a second.
    pub(in super::super) fn measured(cpu_seconds: f64) -> Measured {
        let moment = |at_s, cpu_seconds, run_time_ns, runs, forks| {
            let bpf = Bpf {
                map_bytes: 20 << 20,
                maps: 5,
                run_time_ns: run_time_ns * 3,
                entry: Entry { run_time_ns, runs },
            };
            let cost = Cost { anonymous_rss_bytes: 30 << 20, cpu_seconds, bpf };
            Moment { at: Duration::from_secs(at_s), cost, forks }
        };
        Measured {
            before: moment(1000, 1.0, 1_000, 10, 50),
            after: moment(1120, 1.0 + cpu_seconds, 501_000, 110, 7250),
            samples: 100,
        }
    }

    #[test]
    fn rates_come_from_the_difference_of_both_ends() {
        let measured = measured(0.4);
        assert_eq!(measured.ns_per_sample(), Some(5_000));
        assert!((measured.cpu_seconds_per_minute() - 0.2).abs() < 1e-9);
        assert!((measured.bpf_seconds_per_minute().unwrap() - 0.00075).abs() < 1e-9);
        assert!((measured.forks_per_second() - 60.0).abs() < 1e-9);
    }

    #[test]
    fn what_has_no_program_has_no_time_in_the_kernel() {
        let mut measured = measured(0.4);
        measured.after.cost.bpf = Bpf::default();
        assert_eq!(measured.ns_per_sample(), None);
        assert_eq!(measured.bpf_seconds_per_minute(), None);
    }

    #[test]
    fn a_load_that_falls_behind_is_refused() {
        let mut measured = measured(0.4);
        assert!(measured.check(Load::Churn).is_ok());
        measured.after.forks = measured.before.forks + 44 * 120;
        assert!(measured.check(Load::Churn).unwrap_err().to_string().contains("44 processes a second"));
        assert!(measured.check(Load::Split).is_ok());
    }

    #[test]
    fn a_window_ends_before_its_last_moment() {
        let window = measured(0.4).window();
        assert!(window.contains(Duration::from_secs(1000)));
        assert!(!window.contains(Duration::from_secs(1120)));
        assert!(!window.contains(Duration::from_millis(999_999)));
    }
}
