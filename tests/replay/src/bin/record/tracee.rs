//! A thread that can be stopped and looked at.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use abi::Registers;
use anyhow::{Context, Result, bail};
use replay::Machine;

use crate::maps::Mapped;
use crate::program::Program;
use crate::ptrace::Traced;
use crate::recording::Recording;
use crate::remote::Remote;

const WARM_UP_LIMIT: Duration = Duration::from_secs(20);
/// How long the program runs when nobody ends it, milliseconds of CPU time in its work.
const PROGRAM_MS: &str = "600000";

pub(crate) trait Tracee {
    /// Executable mappings by address.
    fn mappings(&mut self) -> Result<Vec<Mapped>>;
    /// Where the process' first stack began; 0 when that cannot be had.
    fn stack_start(&self) -> Result<u64>;
    fn registers(&mut self) -> Result<Registers>;
    /// Whether all of it could be read.
    fn read(&mut self, address: u64, into: &mut [u8]) -> bool;
    /// Executes one instruction, or delivers one signal.
    fn step(&mut self) -> Result<()>;
    /// Runs until it comes to this address, if that can be had.
    fn run_to(&mut self, address: u64) -> Result<()>;
    /// Runs for about so long.
    fn run(&mut self, time: Duration) -> Result<()>;
}

/// A process that is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Guard(pub(crate) Child);

impl Drop for Guard {
    fn drop(&mut self) {
        if self.0.kill().is_ok() {
            self.0.wait().ok();
        }
    }
}

/// Starts the program and stops one of its threads.
pub(crate) fn start(recording: &Recording, program: &Program) -> Result<Box<dyn Tracee>> {
    match recording.machine {
        Machine::X86_64 => {
            let child = spawn(Command::new(program.path()).arg(PROGRAM_MS))?;
            warm_up(&child, recording.warm_up_ms)?;
            Ok(Box::new(Traced::seize(child, recording.of_thread)?))
        }
        Machine::Aarch64 => Ok(Box::new(Remote::start(program.path(), PROGRAM_MS, recording.warm_up_ms)?)),
    }
}

/// With an environment of its own: what lies on its stack is kept.
pub(crate) fn spawn(command: &mut Command) -> Result<Guard> {
    // Go's runtime would stop at its own signals, which the stub of an emulator takes for stops.
    command
        .env_clear()
        .env("GODEBUG", "asyncpreemptoff=1")
        .current_dir("/tmp")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    Ok(Guard(command.spawn()?))
}

/// Waits until the process has used some CPU time.
pub(crate) fn warm_up(process: &Guard, cpu_ms: u64) -> Result<()> {
    let begin = Instant::now();
    // utime is the 14th field, in hundredths of a second.
    while stat(process.0.id(), 14)? * 10 < cpu_ms {
        if begin.elapsed() > WARM_UP_LIMIT {
            bail!("the program does not run");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A field of proc(5)'s `/proc/pid/stat`, counted from 1; behind the name only.
pub(crate) fn stat(process: u32, field: usize) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let text = field.checked_sub(3).and_then(|index| behind_name.split_whitespace().nth(index));
    Ok(text.context("too few fields")?.parse()?)
}

/// A thread of the process other than its first.
pub(crate) fn other_thread(process: u32) -> Result<u32> {
    for entry in std::fs::read_dir(format!("/proc/{process}/task"))? {
        if let Ok(thread) = entry?.file_name().to_string_lossy().parse::<u32>()
            && thread != process
        {
            return Ok(thread);
        }
    }
    bail!("process {process} has one thread only")
}
