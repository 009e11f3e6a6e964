//! `run`: from a checkout to a running kovar.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
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
    let sudo = workspace::find_program("sudo");
    let Some(mut start) = start(&kovar, &args.arguments, setup::is_root(), sudo) else {
        println!("kovar needs root to load its kernel programs, and sudo is not installed; as root, start:");
        println!("    {} run {}", kovar.display(), args.arguments.join(" "));
        return Ok(false);
    };
    if !setup::is_root() {
        println!("kovar needs root to load its kernel programs: sudo may ask for your password");
    }
    println!("starting {} run; its page is {URL} unless ui.listen says otherwise", kovar.display());
    Err(start.exec()).with_context(|| format!("cannot start {}", kovar.display()))
}

/// The command that runs kovar as root; `None` when there is no way to become root.
fn start(kovar: &Path, arguments: &[String], is_root: bool, sudo: Option<PathBuf>) -> Option<Command> {
    let mut command = match is_root {
        true => Command::new(kovar),
        false => {
            let mut command = Command::new(sudo?);
            command.arg("-E").arg(kovar);
            command
        }
    };
    command.arg("run").args(arguments);
    Some(command)
}

/// Builds the release binary.
pub(crate) fn build() -> Result<()> {
    let mut build = workspace::cargo();
    build.args(["build", "--release", "--package", "agent"]);
    process::step("building kovar", &mut build, BUILD_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_root_kovar_starts_through_sudo_where_there_is_one() {
        let arguments = ["--config".to_owned(), "a.yaml".to_owned()];
        let line = |is_root, sudo: Option<&str>| {
            let command = start(Path::new("/kovar"), &arguments, is_root, sudo.map(PathBuf::from))?;
            let words = std::iter::once(command.get_program()).chain(command.get_args());
            Some(words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(line(true, None).unwrap(), "/kovar run --config a.yaml");
        assert_eq!(line(true, Some("/sudo")).unwrap(), "/kovar run --config a.yaml");
        assert_eq!(line(false, Some("/sudo")).unwrap(), "/sudo -E /kovar run --config a.yaml");
        assert_eq!(line(false, None), None);
    }
}
