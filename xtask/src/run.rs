//! `run`: from a checkout to a running kovar.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::setup::{self, Purpose};
use crate::{process, workspace};

const BUILD_LIMIT: Duration = Duration::from_secs(3600);
const URL: &str = "http://localhost:12345";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What `kovar run` is given, for example `-- --config deploy/config/minimal.yaml`.
    #[arg(last = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    if !setup::prepare(Purpose::Run)? {
        return Ok(false);
    }
    build()?;
    let kovar = workspace::kovar();
    if !setup::is_root() {
        println!("kovar needs root to load its kernel programs; start it with:");
        println!("    sudo -E {} run {}", kovar.display(), args.arguments.join(" "));
        return Ok(false);
    }
    println!("starting {} run; its page is {URL} unless ui.listen says otherwise", kovar.display());
    let error = Command::new(&kovar).arg("run").args(&args.arguments).exec();
    Err(error).with_context(|| format!("cannot start {}", kovar.display()))
}

/// Builds the release binary.
pub(crate) fn build() -> Result<()> {
    let mut build = workspace::cargo();
    build.args(["build", "--release", "--package", "agent"]);
    process::step("building kovar", &mut build, BUILD_LIMIT)
}
