//! The profiler's steady state: kovar run for a while, every CPU busy, against the limits of the design.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::cost::{BpfStats, Cost};
use super::machine;
use crate::process::{self, Server};
use crate::{run as build, setup, workspace};

const MAP_BYTES_MAX: u64 = 24 * MIB;
const ANONYMOUS_RSS_BYTES_MAX: u64 = 48 * MIB;
const CPU_SECONDS_PER_MINUTE_MAX: f64 = 0.3;
const MIB: u64 = 1024 * 1024;
const REPORT_INTERVAL: Duration = Duration::from_secs(15);
/// The load: a program with a known mix of user and kernel stacks.
const LOAD: &str = "tests/programs/split.c";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long is measured, after the warm-up.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// How long symbols, caches and maps may fill before.
    #[arg(long, default_value_t = 30)]
    warm_up_seconds: u64,
}

pub(super) fn run(args: &Args) -> Result<bool> {
    if !setup::is_root() {
        bail!("measuring BPF programs needs root; start this with sudo -E");
    }
    build::build()?;
    let dir = workspace::target().join("bench");
    fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let (load, config, log) = (dir.join("split"), dir.join("kovar.yaml"), dir.join("kovar.log"));
    let mut compile = Command::new("gcc");
    compile.args(["-O0", "-g", "-fno-omit-frame-pointer", "-pthread", "-o"]).arg(&load);
    process::capture(compile.arg(workspace::root().join(LOAD)))?;
    let store = dir.join("store");
    fs::write(&config, format!("storage:\n  path: {}\nui:\n  listen: 127.0.0.1:0\n", store.display()))
        .with_context(|| config.display().to_string())?;

    let _stats = BpfStats::enable()?;
    let total_s = args.seconds + args.warm_up_seconds + 60;
    let _load = Server::start(Command::new(&load).arg(total_s.to_string()).stdin(Stdio::null()))?;
    let log_file = fs::File::create(&log).with_context(|| log.display().to_string())?;
    let mut kovar = Command::new(workspace::kovar());
    kovar.arg("run").arg("--config").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log_file);
    let mut kovar = Server::start(&mut kovar)?;
    let result = measure(&mut kovar, args).with_context(|| format!("kovar's log is {}", log.display()));
    drop(kovar);
    fs::remove_dir_all(&store).ok();
    let measured = result?;
    println!("{}", measured.table());
    Ok(measured.is_within_limits())
}

fn measure(kovar: &mut Server, args: &Args) -> Result<Measured> {
    pass(kovar, "warming up", args.warm_up_seconds)?;
    let before = Cost::of(kovar.pid())?;
    let start = Instant::now();
    pass(kovar, "measuring", args.seconds)?;
    let after = Cost::of(kovar.pid())?;
    if after.bpf.runs <= before.bpf.runs {
        bail!("the programs did not run: {} before, {} after", before.bpf.runs, after.bpf.runs);
    }
    Ok(Measured { before, after, elapsed: start.elapsed() })
}

/// Lets time pass while kovar lives.
fn pass(kovar: &mut Server, what: &str, seconds: u64) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(seconds);
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        eprintln!("  {what}: {} s left", left.as_secs());
        thread::sleep(left.min(REPORT_INTERVAL));
        if let Some(status) = kovar.exited() {
            bail!("kovar ended while {what} ({status})");
        }
    }
    Ok(())
}

struct Measured {
    before: Cost,
    after: Cost,
    elapsed: Duration,
}

impl Measured {
    fn cpu_seconds_per_minute(&self) -> f64 {
        (self.after.cpu_seconds - self.before.cpu_seconds) * 60.0 / self.elapsed.as_secs_f64()
    }

    fn ns_per_sample(&self) -> u64 {
        let (before, after) = (&self.before.bpf, &self.after.bpf);
        after.run_time_ns.saturating_sub(before.run_time_ns) / after.runs.saturating_sub(before.runs).max(1)
    }

    fn is_within_limits(&self) -> bool {
        self.after.bpf.map_bytes <= MAP_BYTES_MAX
            && self.after.anonymous_rss_bytes <= ANONYMOUS_RSS_BYTES_MAX
            && self.cpu_seconds_per_minute() <= CPU_SECONDS_PER_MINUTE_MAX
    }

    fn table(&self) -> String {
        let bpf = &self.after.bpf;
        let samples = bpf.runs - self.before.bpf.runs;
        let row = |what: &str, value: String, limit: &str| format!("| {what} | {value} | {limit} |\n");
        [
            format!("{}; {} s, every CPU busy\n\n", machine::describe(), self.elapsed.as_secs()),
            "| what | measured | at most |\n|---|---|---|\n".to_owned(),
            row(&format!("BPF maps ({}), MiB", bpf.maps), mib(bpf.map_bytes), &mib(MAP_BYTES_MAX)),
            row("anonymous RSS, MiB", mib(self.after.anonymous_rss_bytes), &mib(ANONYMOUS_RSS_BYTES_MAX)),
            row(
                "user space, CPU-seconds a minute",
                format!("{:.2}", self.cpu_seconds_per_minute()),
                &format!("{CPU_SECONDS_PER_MINUTE_MAX:.2}"),
            ),
            row("kernel, ns a sample", self.ns_per_sample().to_string(), ""),
            row("samples", samples.to_string(), ""),
        ]
        .concat()
    }
}

/// With one decimal, rounded up, so that a limit is never met by rounding.
fn mib(bytes: u64) -> String {
    let tenths = (bytes * 10).div_ceil(MIB);
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::super::cost::Bpf;
    use super::*;

    fn cost(cpu_seconds: f64, run_time_ns: u64, runs: u64) -> Cost {
        let bpf = Bpf { map_bytes: 20 * MIB, maps: 5, run_time_ns, runs };
        Cost { anonymous_rss_bytes: 30 * MIB, cpu_seconds, bpf }
    }

    fn measured(cpu_seconds: f64) -> Measured {
        Measured {
            before: cost(1.0, 1_000, 10),
            after: cost(1.0 + cpu_seconds, 501_000, 110),
            elapsed: Duration::from_secs(120),
        }
    }

    #[test]
    fn rates_come_from_the_difference_of_both_ends() {
        let measured = measured(0.4);
        assert_eq!(measured.ns_per_sample(), 5_000);
        assert!((measured.cpu_seconds_per_minute() - 0.2).abs() < 1e-9);
        assert!(measured.table().contains("| user space, CPU-seconds a minute | 0.20 | 0.30 |"));
        assert!(measured.table().contains("| BPF maps (5), MiB | 20.0 | 24.0 |"));
    }

    #[test]
    fn over_a_limit_is_a_failure() {
        assert!(measured(0.4).is_within_limits());
        assert!(!measured(0.8).is_within_limits());
        let mut too_large = measured(0.4);
        too_large.after.bpf.map_bytes = MAP_BYTES_MAX + 1;
        assert!(!too_large.is_within_limits());
    }

    #[test]
    fn sizes_are_rounded_up() {
        assert_eq!(mib(MIB), "1.0");
        assert_eq!(mib(MIB + 1), "1.1");
    }
}
