//! A program that says where its threads are, and the process that runs it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::mem::MaybeUninit;
use std::process::{Child, Stdio};
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use interpreters::{Data, Elf, Error, Instance, Libc, Loader, Process, Python};

use super::Interpreter;

const PROGRAM: &str = include_str!("known_stacks.py");
/// A program that does not come so far within this time never will.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A thread as the program itself describes it.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) shape: String,
    pub(crate) tid: i32,
    /// Innermost first: name, file, line.
    pub(crate) frames: Vec<(String, String, u32)>,
}

/// The interpreter of a running program.
pub(crate) struct Attached {
    pub(crate) data: Arc<dyn Data>,
    pub(crate) instance: Box<dyn Instance>,
    pub(crate) bias: u64,
}

/// A running program, killed when it is dropped.
pub(crate) struct Target {
    child: Child,
    pub(crate) expected: Vec<Expected>,
}

impl Target {
    /// Starts the program and waits until its threads stand; why it could not.
    pub(crate) fn start(interpreter: &Interpreter) -> Result<Self, String> {
        let mut command = interpreter.command();
        command.args(["-c", PROGRAM]).env("PYTHONIOENCODING", "utf-8").env_remove("PYTHONPATH");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let output = child.stdout.take().ok_or("no output")?;
        let (send, receive) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(output).read_line(&mut line);
            send.send(read.map(|_bytes| line)).ok();
        });
        let mut target = Self { child, expected: Vec::new() };
        let line = match receive.recv_timeout(START_LIMIT) {
            Ok(Ok(line)) if !line.is_empty() => line,
            other => {
                target.child.kill().ok();
                let mut said = String::new();
                let errors = target.child.stderr.take();
                errors.map(|mut errors| std::io::Read::read_to_string(&mut errors, &mut said));
                return Err(format!("{other:?}: {}", said.lines().last().unwrap_or_default()));
            }
        };
        target.expected = parse(&line).ok_or("no list of stacks")?;
        target.wait_for_main()?;
        Ok(target)
    }

    /// Behind its list the main thread reads from standard input, and stays there.
    fn wait_for_main(&self) -> Result<(), String> {
        let start = Instant::now();
        while start.elapsed() < START_LIMIT {
            let call = fs::read_to_string(format!("/proc/{}/syscall", self.pid()));
            if call.is_ok_and(|call| call.starts_with("0 0x0 ")) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err("the main thread does not read".to_owned())
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// The interpreter in this process, as the files that it maps tell.
    pub(crate) fn attach(&self) -> Result<Attached, Error> {
        let (mut interpreter, mut libc) = (None, None);
        for (start, offset, range) in self.code_mappings() {
            let Ok(file) = File::open(format!("/proc/{}/map_files/{range}", self.pid())) else { continue };
            let Ok(elf) = Elf::read(&file, &|name| Python.is_wanted(name) || Libc::is_wanted(name)) else {
                continue;
            };
            if let Some(data) = Python.recognise(&elf)? {
                interpreter = Some((data, elf.bias(start, offset).unwrap_or_default()));
            }
            libc = libc.or(Libc::recognise(&elf)?);
        }
        let (data, bias) = interpreter.ok_or(Error::Missing("a file that is an interpreter"))?;
        let instance = data.attach(bias, libc, &mut Process::new(self.pid()))?;
        Ok(Attached { data, instance, bias })
    }

    /// The thread pointer of a thread that is stopped for the moment, and its program counter.
    pub(crate) fn registers(&self, tid: i32) -> Result<(u64, u64), String> {
        let failed = |what: &str| format!("{what} {tid}: {}", std::io::Error::last_os_error());
        let none: *mut libc::c_void = ptr::null_mut();
        // SAFETY: requests without memory, to a thread of our own child.
        let stopped = unsafe {
            libc::ptrace(libc::PTRACE_SEIZE, tid, none, none) == 0
                && libc::ptrace(libc::PTRACE_INTERRUPT, tid, none, none) == 0
        };
        if !stopped {
            return Err(failed("stopping"));
        }
        let mut registers = MaybeUninit::<libc::user_regs_struct>::zeroed();
        // SAFETY: the thread is ours to wait for; the registers have room for what is written.
        let read = unsafe {
            libc::waitpid(tid, ptr::null_mut(), libc::__WALL);
            let read = libc::ptrace(libc::PTRACE_GETREGS, tid, none, registers.as_mut_ptr());
            libc::ptrace(libc::PTRACE_DETACH, tid, none, none);
            read
        };
        // SAFETY: all bytes were zeroed, and each value of each field is valid.
        let registers = unsafe { registers.assume_init() };
        if read == 0 { Ok((registers.fs_base, registers.rip)) } else { Err(failed("asking")) }
    }

    /// Start, offset in the file and range of each executable mapping of a file.
    fn code_mappings(&self) -> Vec<(u64, u64, String)> {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.pid())).unwrap_or_default();
        let mappings = maps.lines().filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (start, end) = fields.next()?.split_once('-')?;
            let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
            let is_code = fields.next()?.contains('x');
            let offset = u64::from_str_radix(fields.next()?, 16).ok()?;
            let is_file = fields.nth(2).is_some_and(|path| path.starts_with('/'));
            (is_code && is_file).then(|| (start, offset, format!("{start:x}-{end:x}")))
        });
        mappings.collect()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn parse(line: &str) -> Option<Vec<Expected>> {
    let threads: serde_json::Value = serde_json::from_str(line).ok()?;
    let frame = |frame: &serde_json::Value| {
        let text = |index: usize| frame[index].as_str().map(str::to_owned);
        Some((text(0)?, text(1)?, frame[2].as_u64()? as u32))
    };
    let expected = threads.as_object()?.iter().map(|(shape, thread)| {
        Some(Expected {
            shape: shape.clone(),
            tid: thread[0].as_i64()? as i32,
            frames: thread[1].as_array()?.iter().map(frame).collect::<Option<_>>()?,
        })
    });
    expected.collect()
}
