//! The load: node, a Rust compiler, and many small programs, for as long as it is held.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, PipeWriter, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::super::cost;
use super::programs::{self, Filter};
use crate::process::{self, Server};
use crate::workspace;

const FEED_INTERVAL: Duration = Duration::from_millis(20);
/// Each program uses at least so much of a CPU, or it is hardly sampled: some three samples a minute.
const CPU_SHARE_MIN: f64 = 0.0005;
/// How many functions the compiler is given: some ten seconds of work.
const FUNCTIONS: u32 = 150;
const JS: &str = r#"
"use strict";
function rows(n) { return Array.from({ length: n }, (_, i) => ({ id: i * 7919 % n, name: `row ${i}`, tags: [i % 3, i % 5] })); }
function order(list) { return list.slice().sort((a, b) => a.id - b.id); }
function group(list) { const m = new Map(); for (const r of list) { const k = r.tags.join("-"); m.set(k, (m.get(k) ?? 0) + r.id); } return m; }
function encode(list) { return JSON.parse(JSON.stringify(list)).map(r => r.name.replace(/\d+/, d => Number(d).toString(36))); }
let seen = 0;
for (;;) { const list = rows(2000); seen += group(order(list)).size + encode(list).length; }
"#;

/// The programs and what they are given.
#[derive(Debug)]
pub(super) struct Load {
    node: PathBuf,
    rustc: PathBuf,
    filters: Vec<(PathBuf, Filter)>,
    dir: PathBuf,
}

impl Load {
    /// # Errors
    /// When node, rustc or enough of the others are missing.
    pub(super) fn prepare(dir: &Path) -> Result<Self> {
        let find =
            |name: &str| workspace::find_program(name).with_context(|| format!("{name} is not installed"));
        let load = Self {
            node: find("node")?,
            rustc: find("rustc")?,
            filters: programs::find()?,
            dir: dir.to_owned(),
        };
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        fs::write(load.js(), JS).with_context(|| dir.display().to_string())?;
        fs::write(load.rust(), rust_source()).with_context(|| dir.display().to_string())?;
        Ok(load)
    }

    /// What runs, for the report.
    pub(super) fn names(&self) -> Vec<&'static str> {
        ["node", "rustc"].into_iter().chain(self.filters.iter().map(|(_, filter)| filter.name)).collect()
    }

    fn js(&self) -> PathBuf {
        self.dir.join("busy.js")
    }

    fn rust(&self) -> PathBuf {
        self.dir.join("library.rs")
    }

    pub(super) fn start(&self) -> Result<Running> {
        let mut running = Running::default();
        let mut node = Command::new(&self.node);
        running.add("node", node.arg(self.js()).stdin(Stdio::null()).stdout(Stdio::null()))?;
        let mut compiler = Command::new("sh");
        compiler.args(["-c", "while \"$0\" -O --crate-type lib --out-dir . \"$1\"; do :; done"]);
        compiler.arg(&self.rustc).arg(self.rust()).current_dir(&self.dir).stdin(Stdio::null());
        running.add("rustc", &mut compiler)?;
        let mut pipes = Vec::new();
        for (path, filter) in &self.filters {
            let (reader, writer) = io::pipe().context("pipe")?;
            set_nonblocking(&writer)?;
            let log = self.dir.join(format!("{}.log", filter.name));
            let log = File::create(&log).with_context(|| log.display().to_string())?;
            let mut command = Command::new(path);
            command.args(filter.arguments).stdin(reader).stdout(Stdio::null()).stderr(log);
            running.add(filter.name, &mut command)?;
            pipes.push(Pipe { writer, text: filter.input.text(), at: 0, chunk_bytes: filter.chunk_bytes });
        }
        let is_over = Arc::clone(&running.is_over);
        running.feeder = Some(thread::spawn(move || feed(pipes, &is_over)));
        Ok(running)
    }
}

/// A library of many functions that an optimizing compiler has to work on.
fn rust_source() -> String {
    let mut source = "use std::collections::{BTreeMap, HashMap};\n".to_owned();
    for n in 0..FUNCTIONS {
        // A String takes every write.
        let _infallible = write!(
            source,
            "#[derive(Debug, Clone, PartialEq, PartialOrd, Default)]
pub struct S{n} {{ pub name: String, pub values: Vec<f64>, pub next: Option<Box<S{n}>> }}
pub fn f{n}(text: &str) -> Result<BTreeMap<String, S{n}>, String> {{
    let mut counts: HashMap<&str, (usize, f64)> = HashMap::new();
    for (at, word) in text.split_whitespace().enumerate() {{
        let value: f64 = word.parse().map_err(|error| format!(\"{n}: {{word}}: {{error}}\"))?;
        let entry = counts.entry(word).or_insert((at, 0.0));
        entry.1 += value * {n}.0;
    }}
    let mut found: Vec<_> = counts.into_iter().filter(|(_, (at, _))| at % {modulus} != 1).collect();
    found.sort_by(|a, b| a.1.1.total_cmp(&b.1.1).then(b.0.cmp(a.0)));
    Ok(found.into_iter().map(|(word, (at, sum))| {{
        (format!(\"{{word}}-{n}\"), S{n} {{ name: word.to_uppercase(), values: vec![sum; at % 9], next: None }})
    }}).collect())
}}
",
            modulus = n + 2
        );
    }
    source
}

fn set_nonblocking(writer: &PipeWriter) -> Result<()> {
    // SAFETY: the descriptor is open, and the call takes integers.
    if unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } != 0 {
        return Err(io::Error::last_os_error()).context("a pipe");
    }
    Ok(())
}

struct Pipe {
    writer: PipeWriter,
    text: Vec<u8>,
    at: usize,
    chunk_bytes: usize,
}

impl Pipe {
    /// Writes on where the last write ended; what a full pipe does not take comes next time.
    fn feed(&mut self) {
        let end = self.text.len().min(self.at + self.chunk_bytes);
        // A program that has ended is noticed by whoever holds the load.
        let written = self.text.get(self.at..end).map_or(0, |chunk| self.writer.write(chunk).unwrap_or(0));
        self.at = (self.at + written) % self.text.len();
    }
}

fn feed(mut pipes: Vec<Pipe>, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        pipes.iter_mut().for_each(Pipe::feed);
        thread::sleep(FEED_INTERVAL);
    }
}

/// A load that runs; all of it ends when this is dropped.
#[derive(Default)]
pub(super) struct Running {
    servers: Vec<(&'static str, Server)>,
    is_over: Arc<AtomicBool>,
    feeder: Option<JoinHandle<()>>,
}

impl Running {
    fn add(&mut self, name: &'static str, command: &mut Command) -> Result<()> {
        self.servers.push((name, Server::start(command)?));
        Ok(())
    }

    /// # Errors
    /// When a program of it has ended.
    pub(super) fn check(&mut self) -> Result<()> {
        for (name, server) in &mut self.servers {
            if let Some(status) = server.exited() {
                bail!("the load's {name} ended ({status})");
            }
        }
        Ok(())
    }

    /// # Errors
    /// When a program has done so little that a profiler need not have seen it.
    pub(super) fn check_busy(&self, time: Duration) -> Result<()> {
        for (name, server) in &self.servers {
            let cpu_seconds = cost::cpu_seconds_of_tree(server.pid())?;
            if cpu_seconds < CPU_SHARE_MIN * time.as_secs_f64() {
                bail!("the load's {name} used a CPU for {cpu_seconds} s in {} s", time.as_secs());
            }
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for (_, server) in &self.servers {
            // The shell's compiler as well.
            process::kill_tree(server.pid());
        }
        if let Some(feeder) = self.feeder.take()
            && feeder.join().is_err()
        {
            eprintln!("the thread that feeds the load panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_pipe_is_fed_the_same_text_over_and_over() {
        let (mut reader, writer) = io::pipe().unwrap();
        set_nonblocking(&writer).unwrap();
        let mut pipe = Pipe { writer, text: b"one\ntwo\n".to_vec(), at: 0, chunk_bytes: 5 };
        (0..4).for_each(|_| pipe.feed());
        drop(pipe);
        let mut fed = String::new();
        reader.read_to_string(&mut fed).unwrap();
        assert_eq!(fed, "one\ntwo\none\ntwo\n");
    }

    #[test]
    fn a_full_pipe_loses_nothing() {
        let (mut reader, writer) = io::pipe().unwrap();
        set_nonblocking(&writer).unwrap();
        let text: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let mut pipe = Pipe { writer, text: text.clone(), at: 0, chunk_bytes: 60_000 };
        (0..3).for_each(|_| pipe.feed());
        let mut first = vec![0; 50_000];
        reader.read_exact(&mut first).unwrap();
        (0..2).for_each(|_| pipe.feed());
        drop(pipe);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        let fed: Vec<u8> = first.into_iter().chain(rest).collect();
        assert!(fed.len() > 60_000);
        assert!(fed.iter().zip(text.iter().cycle()).all(|(a, b)| a == b));
    }

    #[test]
    fn everything_of_a_load_ends_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let load = Load::prepare(dir.path()).unwrap();
        let mut running = load.start().unwrap();
        running.check().unwrap();
        let mut pids: Vec<u32> = running.servers.iter().map(|(_, server)| server.pid()).collect();
        pids.extend(pids.clone().into_iter().flat_map(process::descendants));
        assert!(pids.len() >= programs::PROGRAMS_MIN + 2);
        drop(running);
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while pids.iter().any(|pid| process::is_alive(*pid)) {
            assert!(std::time::Instant::now() < deadline, "something of the load is still alive");
            thread::yield_now();
        }
    }
}
