//! Short processes that enter a container from outside, as a probe's command does, and are dead when they are read.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::container::Container;
use tests::kovar;
use tests::pprof::{self, Profile, Stack};
use tests::process::{self, Process};
use tests::program::Program;
use tests::skip::skip;
use tests::verdict::INCOMPLETE;
use tests::wait;

use crate::unwinding::print;

const FLAGS: [&str; 3] = ["-O0", "-g", "-fno-omit-frame-pointer"];
const RATE_HZ: u32 = 199;
const PROBES: usize = 40;
/// Whole samples of so many, and of all else that runs meanwhile, find room while nobody reads.
const PROBES_AT_ONCE: usize = 2;
const PROBE_MS: u32 = 15;
const SAMPLES_MIN: u64 = 60;
/// Of their samples outside exec; the others are the loader's and of the kernel's entry and end.
const NAMED_MIN_PERCENT: u64 = 80;
/// What waited is read by then.
const READ_WAIT: Duration = Duration::from_millis(200);
/// Why a sample inside exec has no user frames.
const INSIDE_EXEC: &str = "registers_unreadable";
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn probes_that_were_dead_when_they_were_read_have_the_names_of_their_container_files() -> Result<()> {
    let name = "probes_that_were_dead_when_they_were_read_have_the_names_of_their_container_files";
    let Some(container) = Container::create('f')? else {
        skip(name, "no cgroup v2 hierarchy is mounted");
        return Ok(());
    };
    let (files, inside) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let program = Program::compile("burn.c", &FLAGS)?;
    // A file for each, which nobody but itself runs.
    let names: Vec<String> = (0..PROBES).map(|number| format!("probe-{number}")).collect();
    for name in &names {
        fs::copy(program.path(), files.path().join(name))?;
    }
    let sleep = Path::new("/bin/sleep");
    let mate = Process::start({
        let mut command = container.command(files.path(), inside.path(), sleep);
        command.arg("120");
        command
    })?;
    wait::until("the container", LIMIT, || {
        Ok((fs::read_to_string(format!("/proc/{}/comm", mate.pid()))? == "sleep\n").then_some(()))
    })?;

    let output = program.dir().join("p.pb.gz");
    let rate = RATE_HZ.to_string();
    let mut command = kovar::command(&["profile", "--duration", "60s", "--rate-hz", &rate, "--output"])?;
    command.arg(&output);
    let mut profiler = Process::start(command)?;
    kovar::wait_sampling(&mut profiler)?;
    for some in names.chunks(PROBES_AT_ONCE) {
        // What it is told waits for it until these probes are dead.
        profiler.signal(libc::SIGSTOP)?;
        let ran = run_probes(&container, &mate, some.iter().map(|name| inside.path().join(name)));
        profiler.signal(libc::SIGCONT)?;
        ran?;
        thread::sleep(READ_WAIT);
    }
    profiler.signal(libc::SIGINT)?;
    profiler.finish(LIMIT)?.success()?;

    let profile = Profile::read(&output)?;
    // What the loader does before has no names: it is stripped.
    let in_loader = |stack: &Stack| {
        let mut frames = stack.frames.iter().filter(|frame| frame.mapping != "[kernel]");
        frames.next_back().is_some_and(|root| root.mapping.contains("/ld-linux"))
    };
    let is_probe = |stack: &&Stack| {
        stack.process_name().starts_with("probe-")
            && !in_loader(stack)
            && stack.label("container_id") == container.id()
            && stack.label(INCOMPLETE) != INSIDE_EXEC
    };
    let of_probes = || profile.stacks.iter().filter(is_probe);
    let all = pprof::samples(of_probes());
    let named = pprof::samples(of_probes().filter(|stack| stack.has("burn_here") && stack.has("main")));
    print(&format!("{PROBES} dead probes: {named} of {all} samples with names"));
    ensure!(
        all >= SAMPLES_MIN && named * 100 >= all * NAMED_MIN_PERCENT,
        "{named} of {all}:\n{}",
        pprof::describe(of_probes())
    );
    Ok(())
}

/// One after the other, each in the container's cgroup and mount namespace, with this process as its parent.
fn run_probes(container: &Container, mate: &Process, probes: impl Iterator<Item = PathBuf>) -> Result<()> {
    for probe in probes {
        let namespace = File::open(format!("/proc/{}/ns/mnt", mate.pid()))?;
        let procs = File::options().write(true).open(container.path().join("cgroup.procs"))?;
        let enter = move || {
            // SAFETY: both calls are async-signal-safe, and the descriptors are open until the exec.
            let entered = unsafe {
                libc::write(procs.as_raw_fd(), c"0".as_ptr().cast(), 1) == 1
                    && libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNS) == 0
            };
            if entered { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        };
        let mut command = Command::new(probe);
        command.arg(PROBE_MS.to_string());
        // SAFETY: the closure allocates nothing and makes async-signal-safe calls only.
        unsafe { command.pre_exec(enter) };
        process::finish(command, LIMIT).context("a probe")?.success()?;
    }
    Ok(())
}
