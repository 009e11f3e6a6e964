//! What `kovar profile` delivers: kernel frames, calm machines, two profilers at once.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::kovar::{self, Running};
use tests::pprof::{self, Frame, Profile};
use tests::program::Program;

use crate::summary::Summary;

const LIMIT: Duration = Duration::from_secs(60);
/// Percent of the counted ticks that may be missed on a machine with nothing to do.
const MISSED_MAX_PERCENT: f64 = 2.0;

#[test]
fn a_system_call_has_kernel_frames_above_the_frames_of_its_program() -> Result<()> {
    let program = Program::split()?;
    let _split = program.start(&["30"])?;
    let output = program.dir().join("p.pb.gz");
    kovar::start_profile(3, &output)?.finish(LIMIT)?.success()?;
    let profile = Profile::read(&output)?;
    let is_user = |frame: &Frame, name: &str| !frame.is_kernel() && frame.name == name;
    let is_read = |frame: &Frame| {
        frame.is_kernel()
            && ["read_zero", "read_iter_zero", "vfs_read", "ksys_read"].contains(&frame.name.as_str())
    };
    // Leaf first: kernel frames, the program's read_zero that made the call, and reader below it.
    let right = |frames: &[Frame]| {
        let kernel = frames.iter().take_while(|frame| frame.is_kernel()).count();
        frames[..kernel].iter().any(is_read)
            && frames.get(kernel).is_some_and(|frame| is_user(frame, "read_zero"))
            && frames.get(kernel + 1).is_some_and(|frame| is_user(frame, "reader"))
            && frames[kernel..].iter().all(|frame| !frame.is_kernel())
    };
    let found = pprof::samples(profile.of_process("split").filter(|stack| right(&stack.frames)));
    ensure!(found >= 10, "{found} samples:\n{}", pprof::describe(profile.of_process("split")));
    Ok(())
}

#[test]
fn a_calm_machine_loses_hardly_a_tick() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ended = kovar::start_profile(20, &dir.path().join("p.pb.gz"))?.finish(LIMIT)?.success()?;
    let summary = Summary::parse(&ended.stderr)?;
    let missed = summary.lost_for("ticks_missed") as f64 * 100.0 / summary.counted as f64;
    ensure!(missed < MISSED_MAX_PERCENT, "{missed:.2} % missed: {summary:?}");
    Ok(())
}

#[test]
fn a_second_profiler_beside_a_running_one_works_and_both_deliver() -> Result<()> {
    let program = Program::split()?;
    let _split = program.start(&["60"])?;
    let running = Running::start(&program.dir().join("store"), "profiler: {push_interval: 5s}")?;
    let output = program.dir().join("p.pb.gz");
    let ended = kovar::start_profile(7, &output)?.finish(LIMIT)?.success()?;
    let summary = Summary::parse(&ended.stderr)?;
    ensure!(summary.delivered as f64 > 0.9 * (summary.counted - summary.idle) as f64, "{summary:?}");
    let profile = Profile::read(&output)?;
    let beside = pprof::samples(profile.of_process("split").filter(|stack| stack.has("work_a")));
    ensure!(beside >= 50, "{beside} samples:\n{}", pprof::describe(profile.stacks.iter()));

    let whole = running.get("/api/v1/pprof?process=split")?;
    let profile = Profile::parse(&whole.body)?;
    let first = pprof::samples(profile.stacks.iter().filter(|stack| stack.has("work_a")));
    ensure!(first >= 50, "{first} samples:\n{}", pprof::describe(profile.stacks.iter()));
    let ticks = running.metric("kovar_profiler_ticks_total", "")?.unwrap_or(0.0);
    let missed = running.metric("kovar_profiler_samples_lost_total", "")?.unwrap_or(0.0);
    ensure!(missed < 0.1 * ticks, "{missed} of {ticks} lost");
    Ok(())
}
