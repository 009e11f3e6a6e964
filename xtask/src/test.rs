//! `test`: runs the levels asked for, goes on after a failed one, and ends with a count.

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;

pub(crate) mod count;
mod unit;

use count::{Counter, Tally};

use crate::setup::{self, Purpose};
use crate::{process, run, tidy, vm, workspace};

/// The longest one level may take, the compilation of its tests included.
const LEVEL_LIMIT: Duration = Duration::from_secs(3600);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The levels to run; all when none is named.
    #[arg(value_enum)]
    levels: Vec<Level>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Level {
    /// Formatting, lints, tidy and every package's own tests.
    Unit,
    /// The sampler on this machine's kernel; needs root.
    Kernel,
    /// Real servers that receive what kovar sends.
    Backends,
    /// The page in a real browser.
    Browser,
    /// The sampler on other kernels, in QEMU.
    Vm,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Kernel => "kernel",
            Self::Backends => "backends",
            Self::Browser => "browser",
            Self::Vm => "vm",
        }
    }

    fn purpose(self) -> Purpose {
        match self {
            Self::Unit => Purpose::Unit,
            Self::Kernel => Purpose::Kernel,
            Self::Backends => Purpose::Backends,
            Self::Browser => Purpose::Browser,
            Self::Vm => Purpose::Vm,
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    let levels = if args.levels.is_empty() { Level::value_variants() } else { &args.levels };
    let mut results = Vec::new();
    for &level in levels {
        println!("\n=== {} ===", level.name());
        let start = Instant::now();
        let tally = run_level(level).unwrap_or_else(|error| {
            println!("FAILED {}: {error:#}", level.name());
            Tally { failed: 1, ..Tally::default() }
        });
        results.push((level.name(), tally.or_failed_when_empty(level.name()), start.elapsed()));
    }
    println!("\n{}", table(&results));
    let total: Tally = results.iter().map(|(_, tally, _)| *tally).sum();
    println!("{total}");
    Ok(total.failed == 0)
}

fn run_level(level: Level) -> Result<Tally> {
    if !setup::prepare(level.purpose())? {
        anyhow::bail!("what this level needs is not installed (see above)");
    }
    if level == Level::Unit {
        return unit::run();
    }
    run::build()?;
    match level {
        Level::Vm => vm::test(),
        _ => cargo_test(&["--release", "--package", "tests", "--test", level.name()], true),
    }
}

/// Runs `cargo test` and counts; one test at a time where tests load or change the whole machine.
fn cargo_test(selection: &[&str], alone: bool) -> Result<Tally> {
    let mut command = workspace::cargo();
    command.arg("test").args(selection).env("KOVAR_BIN", workspace::kovar());
    // So that a test that needs the lab need not go through cargo and its lock.
    command.env("KOVAR_XTASK", std::env::current_exe()?);
    command.args(["--no-fail-fast", "--", "--nocapture"]);
    if alone {
        command.arg("--test-threads=1");
    }
    let mut counter = Counter::default();
    let status = process::lines("cargo test", command, LEVEL_LIMIT, |line| {
        println!("{line}");
        counter.read(line);
    })?;
    let mut tally = counter.tally();
    if !status.success() && tally.failed == 0 {
        println!(
            "FAILED cargo test ({status}) without a failed test: it did not build, or a test process died"
        );
        tally.failed = 1;
    }
    Ok(tally)
}

fn table(results: &[(&str, Tally, Duration)]) -> String {
    let mut text =
        format!("{:<10}{:>8}{:>8}{:>9}{:>10}\n", "level", "passed", "failed", "skipped", "seconds");
    for (name, tally, elapsed) in results {
        let Tally { passed, failed, skipped } = tally;
        text.push_str(&format!("{name:<10}{passed:>8}{failed:>8}{skipped:>9}{:>10}\n", elapsed.as_secs()));
    }
    text
}

/// One more check that is no test of cargo's: prints its outcome and counts it.
fn check(what: &str, outcome: Result<bool>) -> Tally {
    match outcome {
        Ok(true) => Tally { passed: 1, ..Tally::default() },
        Ok(false) => {
            println!("FAILED {what}");
            Tally { failed: 1, ..Tally::default() }
        }
        Err(error) => {
            println!("FAILED {what}: {error:#}");
            Tally { failed: 1, ..Tally::default() }
        }
    }
}
