//! A real server of the lab, for as long as a test needs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::Process;

/// The first time it is built, which takes minutes.
const READY_LIMIT: Duration = Duration::from_secs(1200);
/// The last line that every server of the lab prints.
const LAST_KEY: &str = "pid";

/// Stopped when it is dropped.
#[derive(Debug)]
pub struct Lab {
    server: Process,
}

impl Lab {
    /// Builds it if need be, starts it, and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be built or started; the text holds what it printed.
    pub fn start(server: &str) -> Result<Self> {
        let mut command = match std::env::var_os("KOVAR_XTASK") {
            Some(xtask) => Command::new(xtask),
            None => {
                let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
                cargo.args(["run", "--quiet", "--package", "xtask", "--"]);
                cargo
            }
        };
        command.args(["lab", server, "--serve"]).current_dir(root()?).stdin(Stdio::piped());
        for name in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
            command.env_remove(name);
        }
        let mut server = Process::start_with_input(command)?;
        server.line(&format!("{LAST_KEY}="), READY_LIMIT)?;
        Ok(Self { server })
    }

    /// One of the values it printed, such as `url`.
    ///
    /// # Errors
    /// It did not print it.
    pub fn value(&self, key: &str) -> Result<String> {
        let stdout = self.server.stdout();
        let found = stdout.lines().filter_map(|line| line.split_once('=')).find(|(name, _)| *name == key);
        found.map(|(_, value)| value.to_owned()).with_context(|| format!("no {key}= in {stdout:?}"))
    }
}

fn root() -> Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the checkout")?.to_owned())
}
