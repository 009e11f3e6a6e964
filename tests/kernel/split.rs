//! A program whose shares are known, on every CPU: the profile has them, and accounts for every tick.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::pprof::{self, Profile, Stack};
use tests::process::{self, Process};
use tests::program::Program;
use tests::skip::skip;
use tests::{host, kovar, wait};

use crate::summary::Summary;

const SECONDS: u32 = 70;
const SAMPLES_MIN: u64 = 6_000;
const DELIVERED_MIN_PERCENT: f64 = 99.0;
/// Percentage points.
const TOLERANCE: f64 = 3.0;
const SHARES: [(&str, f64); 3] = [("work_a", 60.0), ("work_b", 30.0), ("work_c", 10.0)];
/// A tick that is under way on a CPU when the clock is stopped may be counted and not yet run.
const IN_FLIGHT_PER_CPU_MAX: u64 = 1;

#[test]
fn a_known_split_on_all_cpus_is_found_and_every_tick_is_accounted_for() -> Result<()> {
    let program = Program::split()?;
    let output = program.dir().join("p.pb.gz");
    let mut profiler = kovar::start_profile(SECONDS, &output)?;
    kovar::wait_sampling(&mut profiler)?;
    let split = start_before_others(&program)?;
    let ended = profiler.finish(Duration::from_secs(u64::from(SECONDS) + 60))?.success()?;
    drop(split);
    eprint(&ended.stderr);

    let profile = Profile::read(&output)?;
    let below_dispatch =
        |stack: &&Stack| stack.process_name() == "split" && stack.has("dispatch") && stack.has("main");
    let work = pprof::samples(profile.stacks.iter().filter(below_dispatch));
    ensure!(work >= SAMPLES_MIN, "only {work} samples below dispatch");
    for (function, expected) in SHARES {
        let found =
            pprof::samples(profile.stacks.iter().filter(below_dispatch).filter(|it| it.has(function)));
        let percent = found as f64 * 100.0 / work as f64;
        eprint(&format!("{function}: {percent:.2} % of {work}"));
        ensure!((percent - expected).abs() <= TOLERANCE, "{function} has {percent:.2} % of {work} samples");
    }
    account(&Summary::parse(&ended.stderr)?, profile.samples())?;
    go_shows_the_same(&output)
}

/// Starts the program in a session of its own, which the scheduler serves before other sessions' programs, so that it
/// keeps every CPU busy whatever else runs on this machine.
fn start_before_others(program: &Program) -> Result<Process> {
    let mut command = Command::new("setsid");
    command.arg(program.path()).arg(SECONDS.to_string());
    let process = Process::start(command)?;
    let session = format!("/proc/{}/autogroup", process.pid());
    // A kernel without autogroups has no such file and weighs programs by themselves; elsewhere this session must
    // be its own before it is given its weight.
    wait::until("a session of its own", Duration::from_secs(10), || {
        let own = process_group(process.pid())? == process.pid();
        Ok(own.then_some(()))
    })?;
    if Path::new(&session).exists() {
        fs::write(&session, "-15").with_context(|| session.clone())?;
    }
    Ok(process)
}

/// The fifth field of `/proc/PID/stat`.
fn process_group(pid: u32) -> Result<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    Ok(after_name.split_whitespace().nth(2).context("its group")?.parse()?)
}

fn account(summary: &Summary, samples: u64) -> Result<()> {
    ensure!(summary.delivered == samples, "{summary:?} but {samples} samples in the file");
    let percent = summary.delivered as f64 * 100.0 / summary.counted as f64;
    ensure!(percent >= DELIVERED_MIN_PERCENT, "{percent:.2} % delivered: {summary:?}");
    let accounted = summary.delivered + summary.idle + summary.lost_in_all();
    let in_flight_max = IN_FLIGHT_PER_CPU_MAX * host::cpus() as u64;
    ensure!(summary.counted.abs_diff(accounted) <= in_flight_max, "{accounted} of {summary:?} accounted for");
    Ok(())
}

/// `go tool pprof -top` on the file.
fn go_shows_the_same(profile: &Path) -> Result<()> {
    let Some(go) = host::find_program("go") else {
        skip(
            "a_known_split_on_all_cpus_is_found_and_every_tick_is_accounted_for",
            "no go for `go tool pprof`",
        );
        return Ok(());
    };
    let mut command = Command::new(go);
    command.args(["tool", "pprof", "-top", "-unit=ms", "-focus=dispatch"]).arg(profile);
    let printed = process::finish(command, Duration::from_secs(120))?.success()?.stdout;
    // flat flat% sum% cum cum% name
    let cumulative_ms = |function: &str| -> Result<f64> {
        let row = printed.lines().find(|line| line.split_whitespace().nth(5) == Some(function));
        let cell = row.and_then(|row| row.split_whitespace().nth(3)).and_then(|cell| cell.strip_suffix("ms"));
        cell.and_then(|cell| cell.parse().ok()).with_context(|| format!("no row of {function} in {printed}"))
    };
    let whole = cumulative_ms("dispatch")?;
    for (function, expected) in SHARES {
        let percent = cumulative_ms(function)? * 100.0 / whole;
        ensure!(
            (percent - expected).abs() <= TOLERANCE,
            "go tool pprof: {function} {percent:.2} %\n{printed}"
        );
    }
    Ok(())
}

/// What was measured, for whoever reads the run.
#[allow(clippy::print_stderr, reason = "measurements stand in the output of the run")]
fn eprint(text: &str) {
    eprintln!("{text}");
}
