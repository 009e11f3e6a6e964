//! A profile of the whole machine that is ended when the test has seen enough.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

use crate::kovar;
use crate::pprof::Profile;
use crate::process::Process;

/// It ends by itself then, whatever becomes of the test.
const SECONDS_MAX: u32 = 900;
/// From the order to stop until the file is written.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// `kovar profile` that samples.
#[derive(Debug)]
pub struct Recording {
    process: Process,
    output: PathBuf,
    _dir: TempDir,
}

impl Recording {
    /// Starts one and waits until every CPU is sampled.
    ///
    /// # Errors
    /// It did not start.
    pub fn start(rate_hz: u32) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let output = dir.path().join("p.pb.gz");
        let (duration, rate) = (format!("{SECONDS_MAX}s"), rate_hz.to_string());
        let mut command =
            kovar::command(&["profile", "--duration", &duration, "--rate-hz", &rate, "--output"])?;
        command.arg(&output);
        let mut process = Process::start(command)?;
        kovar::wait_sampling(&mut process)?;
        Ok(Self { process, output, _dir: dir })
    }

    /// Ends it; what was sampled, and the account that was printed.
    ///
    /// # Errors
    /// It failed, or wrote no profile.
    pub fn stop(mut self) -> Result<(Profile, String)> {
        self.process.signal(libc::SIGINT)?;
        let ended = self.process.finish(STOP_LIMIT)?.success()?;
        Ok((Profile::read(&self.output)?, ended.stderr))
    }
}
