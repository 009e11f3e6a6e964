//! The unit level: formatting, lints, tidy, and the tests beside the code.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::count::Tally;
use super::{cargo_test, check, tidy};
use crate::{process, workspace};

const LINT_LIMIT: Duration = Duration::from_secs(1800);

pub(super) fn run() -> Result<Tally> {
    let mut fmt = workspace::cargo();
    fmt.args(["fmt", "--all", "--check"]);
    let mut clippy = workspace::cargo();
    clippy.args(["clippy", "--workspace", "--exclude", "probes", "--all-targets", "--", "-D", "warnings"]);
    // A program without std does not compile for a host that unwinds.
    let mut clippy_probes = workspace::cargo();
    clippy_probes.args(["clippy", "--package", "probes", "--", "-D", "warnings"]);
    clippy_probes.env("CARGO_PROFILE_DEV_PANIC", "abort");
    println!(
        "probes is linted apart (panic=abort: it has no std) and has no tests: it only runs in the kernel"
    );

    let tally = [
        check("formatting", succeeds("formatting", fmt)),
        check("clippy", succeeds("clippy", clippy)),
        check("clippy for probes", succeeds("clippy for probes", clippy_probes)),
        check("tidy", tidy::run()),
        cargo_test(&["--workspace", "--exclude", "tests", "--exclude", "probes"], false)?,
        // What the other levels' tests are made of, which needs neither root nor a binary.
        cargo_test(&["--package", "tests", "--lib"], false)?,
    ];
    Ok(tally.into_iter().sum())
}

fn succeeds(what: &str, mut command: Command) -> Result<bool> {
    process::step(what, &mut command, LINT_LIMIT).map(|()| true)
}
