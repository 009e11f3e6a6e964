//! What keeps the machine busy while something is measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process::{self, Server};
use crate::workspace;

/// How many short processes a second `churn` starts.
const CHURN_PER_SECOND: u32 = 50;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// Every CPU busy in a known mix of user and kernel stacks: the steady state.
    Split,
    /// That, and short processes on top.
    Churn,
}

impl Load {
    pub(super) const ALL: [Self; 2] = [Self::Split, Self::Churn];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Split => "split",
            Self::Churn => "churn",
        }
    }

    pub(super) fn title(self) -> String {
        match self {
            Self::Split => "split: every CPU busy".to_owned(),
            Self::Churn => format!("churn: the same and {CHURN_PER_SECOND} short processes a second"),
        }
    }

    /// How many processes a second it starts by itself.
    pub(super) fn starts_per_second(self) -> u32 {
        match self {
            Self::Split => 0,
            Self::Churn => CHURN_PER_SECOND,
        }
    }
}

/// The programs, compiled.
#[derive(Debug)]
pub(super) struct Programs {
    split: PathBuf,
    churn: PathBuf,
}

impl Programs {
    pub(super) fn compile(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let compile = |name: &str| -> Result<PathBuf> {
            let program = dir.join(name);
            let source = workspace::root().join("tests/programs").join(name).with_extension("c");
            let mut compile = Command::new("gcc");
            compile.args(["-O0", "-g", "-fno-omit-frame-pointer", "-pthread", "-o"]);
            process::capture(compile.arg(&program).arg(source))?;
            Ok(program)
        };
        Ok(Self { split: compile("split")?, churn: compile("churn")? })
    }

    /// Starts the load for at most so many seconds; it ends when what is returned is dropped.
    pub(super) fn start(&self, load: Load, seconds: u64) -> Result<Running> {
        let start = |program: &Path| {
            Server::start(Command::new(program).arg(seconds.to_string()).stdin(Stdio::null()))
        };
        let mut running = Running { load, servers: vec![start(&self.split)?] };
        if load == Load::Churn {
            let mut churn = Command::new(&self.churn);
            churn.arg(seconds.to_string()).arg(CHURN_PER_SECOND.to_string()).stdin(Stdio::null());
            running.servers.push(Server::start(&mut churn)?);
        }
        Ok(running)
    }
}

/// A load that runs.
#[derive(Debug)]
pub(super) struct Running {
    load: Load,
    servers: Vec<Server>,
}

impl Running {
    /// # Errors
    /// When a program of it has ended.
    pub(super) fn check(&mut self) -> Result<()> {
        for server in &mut self.servers {
            if let Some(status) = server.exited() {
                bail!("the load {} ended ({status})", self.load.name());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use std::time::{Duration, Instant};

    #[test]
    fn a_load_that_has_ended_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let programs = Programs::compile(dir.path()).unwrap();
        let mut running = programs.start(Load::Churn, 600).unwrap();
        assert!(running.check().is_ok());
        let churn = running.servers[1].pid();
        process::signal(churn, libc::SIGKILL);
        let deadline = Instant::now() + Duration::from_secs(20);
        while running.check().is_ok() {
            assert!(Instant::now() < deadline, "the load's end goes unnoticed");
            thread::yield_now();
        }
    }
}
