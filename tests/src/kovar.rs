//! The binary under test: where it is, one command of it, and a collector that runs.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::http::{self, Response};
use crate::process::{Finished, Process};
use crate::{host, wait};

/// How long `kovar run` may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(30);

/// `KOVAR_BIN`, or the release binary of this checkout.
///
/// # Errors
/// There is none; the text says how to build it.
pub fn binary() -> Result<PathBuf> {
    let path = match std::env::var_os("KOVAR_BIN") {
        Some(path) => PathBuf::from(path),
        None => {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the checkout")?;
            let target = std::env::var_os("CARGO_TARGET_DIR")
                .map_or_else(|| root.join("target"), |dir| root.join(dir));
            target.join("release/kovar")
        }
    };
    ensure!(
        path.is_file(),
        "{} is not there: cargo build --release --package agent, or set KOVAR_BIN",
        path.display()
    );
    Ok(path)
}

/// `kovar` with arguments and without settings from this process's environment.
///
/// # Errors
/// There is no binary.
pub fn command(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.args(arguments).env_remove("KOVAR_LOG");
    Ok(command)
}

/// Runs `kovar` with arguments to its end.
///
/// # Errors
/// It cannot be started, or the limit.
pub fn finish(arguments: &[&str], limit: Duration) -> Result<Finished> {
    Process::start(command(arguments)?)?.finish(limit)
}

/// Profiles for `seconds` into a file, from now on; end it with [`Process::finish`].
///
/// # Errors
/// It cannot be started.
pub fn start_profile(seconds: u32, output: &Path) -> Result<Process> {
    let mut command = command(&["profile", "--duration", &format!("{seconds}s"), "--output"])?;
    command.arg(output);
    Process::start(command)
}

/// Waits until a process that was just started samples every CPU.
///
/// # Errors
/// It ended before, or the limit.
pub fn wait_sampling(process: &mut Process) -> Result<()> {
    let fds = format!("/proc/{}/fd", process.pid());
    wait::until("sampling", START_LIMIT, || {
        if let Some(status) = process.ended()? {
            bail!("it ended ({status}): {}", process.stderr());
        }
        // A descriptor that was closed meanwhile has no target.
        let targets = fs::read_dir(&fds)?.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
        let events = targets.filter(|target| target.as_os_str() == "anon_inode:[perf_event]").count();
        // Each CPU has an event for mapping records, and then one for the clock.
        Ok((events >= 2 * host::cpus()).then_some(()))
    })
}

/// A `kovar run` of a test's own: a port of its own on 127.0.0.1, a configuration file in a temporary directory.
#[derive(Debug)]
pub struct Running {
    process: Process,
    address: SocketAddr,
    config: PathBuf,
    _dir: TempDir,
}

impl Running {
    /// Starts it with its store in `storage` and waits until it listens. `settings` is YAML that is added to the
    /// file: it must not set `storage` or `ui`.
    ///
    /// # Errors
    /// It did not start; the text holds what it printed.
    pub fn start(storage: &Path, settings: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let config = dir.path().join("kovar.yaml");
        fs::write(&config, configuration(storage, settings))?;
        let mut command = command(&["run", "--config"])?;
        command.arg(&config);
        let mut process = Process::start(command)?;
        let line = process.line("kovar runs", START_LIMIT)?;
        let address = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix("listen="))
            .with_context(|| format!("no listen= in {line:?}"))?
            .parse()
            .with_context(|| line.clone())?;
        Ok(Self { process, address, config, _dir: dir })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The configuration file, to be rewritten before a reload.
    pub fn config(&self) -> &Path {
        &self.config
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// GET a path of it.
    ///
    /// # Errors
    /// Those of the connection; a status is no error.
    pub fn get(&self, path: &str) -> Result<Response> {
        http::get(self.address, path)
    }

    /// GET a path that must answer 200 with JSON.
    ///
    /// # Errors
    /// Another status, or no JSON.
    pub fn json(&self, path: &str) -> Result<serde_json::Value> {
        let answer = self.get(path)?;
        ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text());
        serde_json::from_slice(&answer.body).with_context(|| path.to_owned())
    }

    /// The sum of one metric over its series whose labels contain `labels`, such as `reason="ring_full"`; `None`
    /// when there is no such series.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn metric(&self, name: &str, labels: &str) -> Result<Option<f64>> {
        let page = self.get("/metrics")?.text();
        let values: Vec<f64> = page
            .lines()
            .filter_map(|line| line.rsplit_once(' '))
            .filter(|(series, _)| series.split('{').next() == Some(name) && series.contains(labels))
            .filter_map(|(_, value)| value.parse().ok())
            .collect();
        Ok((!values.is_empty()).then(|| values.iter().sum()))
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Errors
    /// The system's.
    pub fn stop(self) -> Result<Finished> {
        self.process.stop()
    }
}

/// The text of a configuration file with a free port.
pub fn configuration(storage: &Path, settings: &str) -> String {
    format!(
        "storage: {{path: {:?}}}\nui: {{listen: \"127.0.0.1:0\"}}\n{settings}\n",
        storage.display().to_string()
    )
}
