//! Short processes that enter a container from outside, as a probe's command does, and are dead when they are read.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::container::Container;
use tests::kovar;
use tests::pprof::{self, Profile};
use tests::process::{self, Process};
use tests::program::Program;
use tests::skip::skip;

use crate::unwinding::print;

const FLAGS: [&str; 3] = ["-O0", "-g", "-fno-omit-frame-pointer"];
const RATE_HZ: u32 = 997;
const PROBES: usize = 40;
const PROBE_MS: u32 = 15;
const SAMPLES_MIN: u64 = 200;
const NAMED_MIN_PERCENT: u64 = 95;
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn probes_that_were_dead_when_they_were_read_have_the_names_of_their_container_files() -> Result<()> {
    let name = "probes_that_were_dead_when_they_were_read_have_the_names_of_their_container_files";
    let Some(container) = Container::create('f')? else {
        skip(name, "no cgroup v2 hierarchy is mounted");
        return Ok(());
    };
    let (files, inside) = (tempfile::tempdir()?, tempfile::tempdir()?);
    // Nobody has run or opened this file but the probes: the mate is another one.
    let build = |name: &str| Program::compile_to(&files.path().join(name), "burn.c", &FLAGS);
    build("probe")?;
    let sleep = Path::new("/bin/sleep");
    let mate = Process::start({
        let mut command = container.command(files.path(), inside.path(), sleep);
        command.arg("120");
        command
    })?;
    let probe = inside.path().join("probe");
    tests::wait::until("the container", LIMIT, || {
        let root = format!("/proc/{}/root", mate.pid());
        let is_there = Path::new(&root).join(probe.strip_prefix("/")?).exists();
        Ok((is_there && fs::read_to_string(format!("/proc/{}/comm", mate.pid()))? == "sleep\n").then_some(()))
    })?;

    let output = files.path().join("p.pb.gz");
    let (duration, rate) = ("60s", RATE_HZ.to_string());
    let mut command = kovar::command(&["profile", "--duration", duration, "--rate-hz", &rate, "--output"])?;
    command.arg(&output);
    let mut profiler = Process::start(command)?;
    kovar::wait_sampling(&mut profiler)?;
    // What it is told waits for it until all probes are dead.
    profiler.signal(libc::SIGSTOP)?;
    let ran = run_probes(&container, &mate, &probe);
    profiler.signal(libc::SIGCONT)?;
    ran?;
    std::thread::sleep(Duration::from_secs(3));
    profiler.signal(libc::SIGINT)?;
    profiler.finish(LIMIT)?.success()?;

    let profile = Profile::read(&output)?;
    let of_probes = || profile.of_process("probe").filter(|it| it.label("container_id") == container.id());
    let all = pprof::samples(of_probes());
    let named = pprof::samples(of_probes().filter(|stack| stack.has("burn_here") && stack.has("main")));
    print(&format!("{PROBES} dead probes: {named} of {all} samples with names"));
    ensure!(
        all >= SAMPLES_MIN && named * 100 >= all * NAMED_MIN_PERCENT,
        "{named} of {all}:\n{}",
        pprof::describe(profile.of_process("probe"))
    );
    Ok(())
}

/// One after the other, each in the container's cgroup and mount namespace, with this process as its parent.
fn run_probes(container: &Container, mate: &Process, probe: &Path) -> Result<()> {
    for _ in 0..PROBES {
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
