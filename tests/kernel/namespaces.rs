//! Kovar in a PID namespace of its own: process ids are translated, never taken for another process's.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::host::find_program;
use tests::kovar;
use tests::pprof::{self, Profile};
use tests::process::Process;
use tests::program::Program;
use tests::skip::skip;

const LIMIT: Duration = Duration::from_secs(60);
const FLAGS: [&str; 4] = ["-O0", "-g", "-fno-omit-frame-pointer", "-no-pie"];

#[test]
fn only_processes_of_its_own_pid_namespace_are_looked_up_in_proc() -> Result<()> {
    if find_program("unshare").is_none() {
        skip("only_processes_of_its_own_pid_namespace_are_looked_up_in_proc", "there is no unshare");
        return Ok(());
    }
    let (inner, outer) =
        (Program::compile_as("inner", "burn.c", &FLAGS)?, Program::compile_as("outer", "burn.c", &FLAGS)?);
    let output = inner.dir().join("p.pb.gz");
    let _outside = outer.start(&["60000"])?;
    // `inner` has the number 2 there; outside, 2 is a kernel thread.
    let script = format!(
        "{} 60000 & exec {} profile --duration 4s --output {}",
        inner.path().display(),
        kovar::binary()?.display(),
        output.display()
    );
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", &script]);
    Process::start(command)?.finish(LIMIT)?.success()?;

    let profile = Profile::read(&output)?;
    let of = |name| profile.of_process(name).cloned().collect::<Vec<_>>();
    let (inside, outside) = (of("inner"), of("outer"));
    ensure!(!inside.is_empty() && !outside.is_empty(), "{}", pprof::describe(profile.stacks.iter()));
    ensure!(inside.iter().any(|stack| stack.has("burn_here")), "{}", pprof::describe(inside.iter()));
    // Out of sight: its user frames have no names, and above all not those of a process inside.
    let named = |stack: &pprof::Stack| {
        stack.frames.iter().any(|frame| !frame.is_kernel() && frame.name != "[unknown]")
    };
    ensure!(!outside.iter().any(named), "{}", pprof::describe(outside.iter()));
    Ok(())
}
