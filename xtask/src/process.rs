//! Child processes: steps that show their progress, and servers that are stopped by their PID.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often a step that still runs says so.
const REPORT_INTERVAL: Duration = Duration::from_secs(15);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long a server may take to stop by itself before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// The longest line kept from a child's output; the rest of it is dropped.
const LINE_MAX_BYTES: u64 = 64 * 1024;

/// Runs a step, saying what it waits for and for how long. Everything goes to standard error: standard output is for
/// results that a program may read.
///
/// # Errors
/// When the program cannot be started, fails, or runs longer than `limit` (it is killed then).
pub(crate) fn step(what: &str, command: &mut Command, limit: Duration) -> Result<()> {
    eprintln!("{what} ...");
    let start = Instant::now();
    let mut child = spawn(command.stdout(io::stderr()))?;
    let status = wait(&mut child, what, limit)?;
    if !status.success() {
        bail!("{what} failed ({status}): {}", line_of(command));
    }
    eprintln!("{what}: done in {} s", start.elapsed().as_secs());
    Ok(())
}

/// What the command prints on standard output; its standard error is part of the error.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed ({}): {}", line_of(command), output.status, stderr.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{} does not print UTF-8", line_of(command)))
}

/// Starts a child that receives SIGTERM when this process dies, however it dies.
pub(crate) fn spawn(command: &mut Command) -> Result<Child> {
    let parent = std::process::id();
    let tie = move || {
        // SAFETY: prctl with this option takes integers only, and both calls are async-signal-safe.
        let orphaned = unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) != 0
                || libc::getppid().cast_unsigned() != parent
        };
        if orphaned { Err(io::Error::from_raw_os_error(libc::ESRCH)) } else { Ok(()) }
    };
    // SAFETY: the closure allocates nothing and makes only async-signal-safe calls.
    unsafe { command.pre_exec(tie) };
    command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))
}

/// Runs the command with both its outputs in one stream, handing each line to `line`.
///
/// # Errors
/// When it cannot be started or runs longer than `limit`: it and its descendants are killed then.
pub(crate) fn lines(
    what: &str,
    mut command: Command,
    limit: Duration,
    mut line: impl FnMut(&str),
) -> Result<ExitStatus> {
    let (reader, writer) = io::pipe().context("pipe")?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().context("pipe")?).stderr(writer);
    let mut child = spawn(&mut command)?;
    // The command keeps the pipe's writing end, and the reader would never see its end.
    drop(command);
    thread::scope(|scope| {
        let watch = scope.spawn(|| wait(&mut child, what, limit));
        let mut reader = BufReader::new(reader);
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let read = reader.by_ref().take(LINE_MAX_BYTES).read_until(b'\n', &mut bytes);
            match read {
                Ok(0) | Err(_) => break,
                Ok(_) => line(String::from_utf8_lossy(&bytes).trim_end()),
            }
        }
        match watch.join() {
            Ok(status) => status,
            Err(_) => bail!("{what}: the thread that waits for it panicked"),
        }
    })
}

fn wait(child: &mut Child, what: &str, limit: Duration) -> Result<ExitStatus> {
    let start = Instant::now();
    let mut report = start + REPORT_INTERVAL;
    loop {
        if let Some(status) = child.try_wait().with_context(|| format!("waiting for {what}"))? {
            return Ok(status);
        }
        let now = Instant::now();
        if now.duration_since(start) > limit {
            kill_tree(child.id());
            child.wait().with_context(|| format!("waiting for {what}"))?;
            bail!("{what} took longer than {} s and was killed", limit.as_secs());
        }
        if now >= report {
            eprintln!("  {what}: still running after {} s", now.duration_since(start).as_secs());
            report = now + REPORT_INTERVAL;
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// A child that is asked to stop, and then made to, when this value is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
}

impl Server {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        // A group of its own: a Ctrl-C at the terminal is for this process, which then stops its servers in order.
        Ok(Self { child: spawn(command.process_group(0))? })
    }

    /// A server that outlives this process once it is detached.
    pub(crate) fn start_untied(command: &mut Command) -> Result<Self> {
        let child = command.process_group(0).spawn();
        let child = child.with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self { child })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status when it has ended by itself.
    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asks it to stop, makes it after a while, and waits for its end; does nothing when it has ended.
    pub(crate) fn stop(&mut self) {
        if self.exited().is_some() {
            return;
        }
        signal(self.child.id(), libc::SIGTERM);
        let deadline = Instant::now() + STOP_GRACE;
        while Instant::now() < deadline {
            if self.exited().is_some() {
                return;
            }
            thread::sleep(POLL_INTERVAL);
        }
        kill_tree(self.child.id());
        if let Err(error) = self.child.wait() {
            eprintln!("waiting for PID {}: {error}", self.child.id());
        }
    }

    /// Leaves it running after this process ends, when it was started untied.
    pub(crate) fn detach(self) {
        std::mem::forget(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Sends a signal to one process; that it has gone already is no error.
pub(crate) fn signal(pid: u32, signal: i32) {
    // SAFETY: kill takes integers only.
    unsafe { libc::kill(pid.cast_signed(), signal) };
}

pub(crate) fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with('Z')))
}

/// Kills a process and everything it started, the parents first so that they start nothing more.
pub(crate) fn kill_tree(pid: u32) {
    let tree = descendants(pid);
    for pid in [pid].into_iter().chain(tree) {
        signal(pid, libc::SIGKILL);
    }
}

/// Everything a process has started that is still there, and what that has started.
pub(crate) fn descendants(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // The name in parentheses may hold anything; the parent is the second field after it.
        let parent = fs::read_to_string(entry.path().join("stat")).ok().and_then(|stat| {
            stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)?.parse::<u32>().ok())
        });
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut queue = vec![root];
    while let Some(pid) = queue.pop() {
        for child in children.remove(&pid).unwrap_or_default() {
            found.push(child);
            queue.push(child);
        }
    }
    found
}

fn line_of(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_outputs_of_a_child_arrive_as_lines() {
        let mut seen = Vec::new();
        let status =
            lines("test", shell("echo one; echo two >&2; exit 3"), Duration::from_secs(20), |line| {
                seen.push(line.to_owned());
            })
            .unwrap();
        assert_eq!(status.code(), Some(3));
        assert_eq!(seen, ["one", "two"]);
    }

    #[test]
    fn a_step_over_its_limit_is_killed_with_its_children() {
        let mut pid = None;
        let error = lines("test", shell("sleep 600 & echo $!; wait"), Duration::from_millis(300), |line| {
            pid = line.parse().ok();
        })
        .unwrap_err();
        assert!(error.to_string().contains("longer than"), "{error}");
        let deadline = Instant::now() + Duration::from_secs(20);
        while is_alive(pid.unwrap()) {
            assert!(Instant::now() < deadline, "the child's child is still alive");
            thread::yield_now();
        }
    }

    #[test]
    fn a_dropped_server_is_gone() {
        let server = Server::start(Command::new("sleep").arg("600")).unwrap();
        let pid = server.pid();
        assert!(is_alive(pid));
        drop(server);
        assert!(!is_alive(pid));
    }

    #[test]
    fn a_failed_step_names_its_command() {
        let error = step("trying", &mut shell("exit 7"), Duration::from_secs(20)).unwrap_err();
        assert!(error.to_string().contains("sh -c exit 7"), "{error}");
    }
}
