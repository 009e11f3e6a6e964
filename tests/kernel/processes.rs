//! Which process a sample belongs to, also when it is gone before anybody looks.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::kovar;
use tests::pprof::{self, Profile};
use tests::process::Process;
use tests::program::Program;

const LIMIT: Duration = Duration::from_secs(60);
const FLAGS: [&str; 4] = ["-O0", "-g", "-fno-omit-frame-pointer", "-no-pie"];
/// Lives of 150 ms each; one alone may meet few ticks on a busy machine.
const LIVES: usize = 8;

#[test]
fn a_process_that_lived_150_ms_has_its_name_and_its_functions() -> Result<()> {
    let program = Program::compile_as("mayfly", "burn.c", &FLAGS)?;
    let output = program.dir().join("p.pb.gz");
    let mut profiler = kovar::start_profile(5, &output)?;
    kovar::wait_sampling(&mut profiler)?;
    let start = Instant::now();
    let mut pids = Vec::new();
    for _ in 0..LIVES {
        let life = program.start(&["150"])?;
        pids.push(life.pid());
        life.finish(LIMIT)?.success()?;
    }
    // They must be gone before the push, which is at the end here.
    ensure!(start.elapsed() < Duration::from_secs(4), "this machine is too busy: {:?}", start.elapsed());
    profiler.finish(LIMIT)?.success()?;

    let profile = Profile::read(&output)?;
    let lives: Vec<_> = pids.iter().map(|pid| profile.of_pid(*pid).cloned().collect::<Vec<_>>()).collect();
    let describe = || pprof::describe(lives.iter().flatten());
    let named = |stack: &&pprof::Stack| stack.has("burn_here") && stack.has("main");
    for (pid, stacks) in pids.iter().zip(&lives) {
        let (all, found) = (pprof::samples(stacks.iter()), pprof::samples(stacks.iter().filter(named)));
        // A life that hardly got a CPU proves nothing.
        ensure!(
            all < 4 || found * 2 > all,
            "{found} of {all} samples of {pid} with functions:\n{}",
            describe()
        );
    }
    let mut user = lives.iter().flatten().filter(|stack| stack.leaf() == "burn_here");
    ensure!(user.all(|stack| stack.process_name() == "mayfly"), "{}", describe());
    let all = pprof::samples(lives.iter().flatten());
    let with_functions = pprof::samples(lives.iter().flatten().filter(named));
    // 150 ms are 14 ticks when the machine has nothing else to do.
    ensure!(with_functions >= 3 * LIVES as u64, "{with_functions} with functions:\n{}", describe());
    ensure!(with_functions * 10 >= all * 8, "{with_functions} of {all} with functions:\n{}", describe());
    Ok(())
}

/// Both images have the same process id, the same name and the same addresses: static programs, loaded where they
/// were linked, that differ in the name of one function only.
#[test]
fn what_a_process_ran_before_an_exec_is_told_from_what_it_ran_after() -> Result<()> {
    let flags = |define| [FLAGS.as_slice(), &["-static", define]].concat();
    let before = Program::compile_as("changeling", "burn.c", &flags("-DFUNCTION=burn_before"))?;
    let after = Program::compile_as("changeling", "burn.c", &flags("-DFUNCTION=burn_after_"))?;
    let output = before.dir().join("p.pb.gz");
    let mut profiler = kovar::start_profile(4, &output)?;
    kovar::wait_sampling(&mut profiler)?;
    let mut command = Command::new(before.path());
    command.arg("150").arg(after.path()).arg("700");
    let process = Process::start(command)?;
    let pid = process.pid();
    process.finish(LIMIT)?.success()?;
    profiler.finish(LIMIT)?.success()?;

    let profile = Profile::read(&output)?;
    let describe = || pprof::describe(profile.of_pid(pid));
    for (function, program, expected) in [("burn_before", &before, 3..=20), ("burn_after_", &after, 20..=75)]
    {
        let path = program.path().to_string_lossy();
        let is_own = |stack: &&pprof::Stack| {
            stack.frames.iter().any(|frame| frame.name == function && frame.mapping == path)
        };
        let found = pprof::samples(profile.of_pid(pid).filter(is_own));
        // 150 ms are 15 ticks and 700 ms are 68 when the machine has nothing else to do.
        ensure!(expected.contains(&found), "{found} samples in {function} of {path}:\n{}", describe());
    }
    let both = profile.of_pid(pid).find(|stack| stack.has("burn_before") && stack.has("burn_after_"));
    ensure!(both.is_none(), "{}", describe());
    Ok(())
}
