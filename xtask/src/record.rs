//! `record`: records the stacks of real programs that `tests/replay` unwinds again.

use anyhow::Result;

use crate::workspace;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The cases to record anew, by the names of their folders in tests/replay/cases; all when none is named. Needs
    /// gcc, g++, musl-gcc, go, and for aarch64 gcc-aarch64-linux-gnu and qemu-user.
    cases: Vec<String>,
}

/// The recorder is a program of its own: it uses packages that this one must not.
pub(crate) fn run(args: &Args) -> Result<bool> {
    let mut record = workspace::cargo();
    record.args(["run", "--quiet", "--package", "replay", "--bin", "record", "--"]).args(&args.cases);
    Ok(record.status()?.success())
}
