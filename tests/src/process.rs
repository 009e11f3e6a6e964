//! A child process whose output is kept and which never outlives its guard.

use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::wait;

/// What is kept of each output; the rest is read and dropped.
const OUTPUT_BYTES_MAX: usize = 8 << 20;
/// How long a process may take to end after SIGTERM before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(15);
/// How long its outputs may stay open after it has ended, by a child of its own.
const OUTPUT_GRACE: Duration = Duration::from_secs(5);

/// Stopped by its id with SIGTERM, then SIGKILL, when it is dropped; also by a panic.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    ended: Option<ExitStatus>,
    stdout: Output,
    stderr: Output,
}

/// A process that has ended.
#[derive(Debug, Clone)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// The exit code; `None` when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// # Errors
    /// It did not exit with 0; the text holds both outputs.
    pub fn success(self) -> Result<Self> {
        if !self.status.success() {
            bail!("{}\nstdout: {}\nstderr: {}", self.status, self.stdout, self.stderr);
        }
        Ok(self)
    }
}

impl Process {
    /// Starts it with an empty standard input, unless the command says otherwise.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null());
        Self::start_with_input(command)
    }

    /// Like [`Self::start`], with the command's own standard input.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_with_input(mut command: Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let tie = || {
            // SAFETY: prctl with this option takes integers only and is async-signal-safe.
            match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        };
        // SAFETY: the closure allocates nothing and makes one async-signal-safe call.
        unsafe { command.pre_exec(tie) };
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        Ok(Self { name, child, ended: None, stdout: Output::read(stdout), stderr: Output::read(stderr) })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has printed so far on standard error.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Closes the pipe that is its standard input, if it has one.
    pub fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// The exit status once it has ended.
    ///
    /// # Errors
    /// The system's.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().with_context(|| self.name.clone())?;
        }
        Ok(self.ended)
    }

    /// Waits for the first complete line of either output that contains `needle`.
    ///
    /// # Errors
    /// It ended without printing it, or the limit.
    pub fn line(&mut self, needle: &str, limit: Duration) -> Result<String> {
        let what = format!("{} to print {needle:?}", self.name);
        let found = wait::until(&what, limit, || {
            let ended = self.ended()?;
            if ended.is_some() {
                self.outputs_closed();
            }
            if let Some(line) = self.stderr.line(needle).or_else(|| self.stdout.line(needle)) {
                return Ok(Some(line));
            }
            if let Some(status) = ended {
                bail!("{} ended ({status}) without printing {needle:?}", self.name);
            }
            Ok(None)
        });
        found.with_context(|| format!("stdout: {}\nstderr: {}", self.stdout(), self.stderr()))
    }

    /// Sends a signal such as [`libc::SIGHUP`]; does nothing once it has ended.
    ///
    /// # Errors
    /// The system's.
    pub fn signal(&mut self, signal: i32) -> Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        let pid = i32::try_from(self.pid()).context("its id")?;
        // SAFETY: the child has not been waited for, so that the id is still its own.
        match unsafe { libc::kill(pid, signal) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()).with_context(|| format!("signal {signal} to {pid}")),
        }
    }

    /// Waits for its own end.
    ///
    /// # Errors
    /// The limit; it is stopped then.
    pub fn finish(mut self, limit: Duration) -> Result<Finished> {
        let what = format!("{} to end", self.name);
        let status = wait::until(&what, limit, || self.ended());
        let status =
            status.with_context(|| format!("stdout: {}\nstderr: {}", self.stdout(), self.stderr()))?;
        self.outputs_closed();
        Ok(Finished { status, stdout: self.stdout(), stderr: self.stderr() })
    }

    /// Sends SIGTERM and waits, then SIGKILL; the status tells which of them ended it.
    ///
    /// # Errors
    /// The system's.
    pub fn stop(mut self) -> Result<Finished> {
        let status = self.terminate()?;
        self.outputs_closed();
        Ok(Finished { status, stdout: self.stdout(), stderr: self.stderr() })
    }

    fn terminate(&mut self) -> Result<ExitStatus> {
        self.close_input();
        self.signal(libc::SIGTERM)?;
        if let Ok(status) = wait::until("the end", STOP_GRACE, || self.ended()) {
            return Ok(status);
        }
        self.signal(libc::SIGKILL)?;
        let status = self.child.wait().with_context(|| self.name.clone())?;
        self.ended = Some(status);
        Ok(status)
    }

    /// The last lines come after the end.
    fn outputs_closed(&mut self) {
        for output in [&mut self.stdout, &mut self.stderr] {
            // A grandchild may hold the pipe: what was read by then has to do.
            let _still_open = wait::until("the output's end", OUTPUT_GRACE, || {
                Ok(output.reader.as_ref().is_none_or(JoinHandle::is_finished).then_some(()))
            });
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody is left to tell; the child is tied to this process as well.
        let _ended = self.terminate();
    }
}

/// Runs a command to its end.
///
/// # Errors
/// It cannot be started, or the limit.
pub fn finish(command: Command, limit: Duration) -> Result<Finished> {
    Process::start(command)?.finish(limit)
}

/// Whether it was ended by this signal.
pub fn was_killed_by(status: ExitStatus, signal: i32) -> bool {
    status.signal() == Some(signal)
}

#[derive(Debug)]
struct Output {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Output {
    fn read(from: Option<impl Read + Send + 'static>) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&text);
        let reader = from.map(|from| thread::spawn(move || keep(from, &kept)));
        Self { text, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    fn line(&self, needle: &str) -> Option<String> {
        let text = self.text();
        let complete = &text[..text.rfind('\n')?];
        complete.lines().find(|line| line.contains(needle)).map(str::to_owned)
    }
}

fn keep(mut from: impl Read, kept: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(length) = from.read(&mut buffer) {
        if length == 0 {
            return;
        }
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let room = OUTPUT_BYTES_MAX.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..length.min(room)]);
    }
}
