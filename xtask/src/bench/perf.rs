//! `perf record` of the whole machine: the floor, for it names nothing and keeps everything for later.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::steady::Window;
use crate::process::{self, Server};
use crate::workspace;

const COUNT_LIMIT: Duration = Duration::from_secs(600);

/// The installed perf.
#[derive(Debug)]
pub(super) struct Perf {
    program: PathBuf,
}

impl Perf {
    pub(super) fn find() -> Result<Self> {
        let Some(program) = workspace::find_program("perf") else {
            bail!("perf is not installed; on Debian: apt-get install linux-perf");
        };
        Ok(Self { program })
    }

    /// `perf version 6.1.187`.
    pub(super) fn version(&self) -> Result<String> {
        Ok(process::capture(Command::new(&self.program).arg("--version"))?.trim().to_owned())
    }

    pub(super) fn start(&self, dir: &Path, rate_hz: u32) -> Result<Recording> {
        let (file, log) = (dir.join("perf.data"), dir.join("perf.log"));
        let output = File::create(&log).with_context(|| log.display().to_string())?;
        let mut command = Command::new(&self.program);
        // The clock is the one the window is given in; perf's own has another zero.
        command.args(["record", "-a", "-g", "-k", "CLOCK_MONOTONIC", "-F", &rate_hz.to_string(), "-o"]);
        command.arg(&file).stdin(Stdio::null());
        command.stdout(output.try_clone().context("the log")?).stderr(output);
        let server = Server::start(&mut command)?;
        Ok(Recording { server: Some(server), program: self.program.clone(), file, log })
    }
}

/// A perf that records; its file is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Recording {
    /// None once it was stopped.
    server: Option<Server>,
    program: PathBuf,
    file: PathBuf,
    log: PathBuf,
}

impl Recording {
    pub(super) fn server(&mut self) -> Result<&mut Server> {
        self.server.as_mut().context("perf has been stopped")
    }

    /// Ends the recording, and counts the samples taken in the window.
    pub(super) fn stop(&mut self, window: Window) -> Result<u64> {
        drop(self.server.take());
        let mut script = Command::new(&self.program);
        script.args(["script", "--ns", "-F", "time", "-i"]).arg(&self.file);
        let (mut samples, mut last) = (0, String::new());
        let status =
            process::lines("counting perf's samples", script, COUNT_LIMIT, |line| match time(line) {
                Some(at) => samples += u64::from(window.contains(at)),
                None => line.clone_into(&mut last),
            })?;
        if !status.success() {
            bail!("perf script failed ({status}): {last}");
        }
        Ok(samples)
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        drop(self.server.take());
        // Absent when perf did not come as far as writing it.
        fs::remove_file(&self.file).ok();
    }
}

/// A line of `perf script --ns -F time`: seconds and nanoseconds of CLOCK_MONOTONIC, `5792.650370938:`.
fn time(line: &str) -> Option<Duration> {
    let (seconds, nanoseconds) = line.trim().strip_suffix(':')?.split_once('.')?;
    if nanoseconds.len() != 9 {
        return None;
    }
    Some(Duration::new(seconds.parse().ok()?, nanoseconds.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_nanoseconds() {
        assert_eq!(time(" 5792.050370938: "), Some(Duration::new(5792, 50_370_938)));
        assert_eq!(time("5792.65037:"), None);
        assert_eq!(time("incompatible file format"), None);
    }
}
