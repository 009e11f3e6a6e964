//! How soon after its start the page shows what the machine does.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::kovar::Running;
use tests::program::Program;
use tests::wait;

const LIVE_MAX: Duration = Duration::from_secs(20);

#[test]
fn a_running_program_is_on_the_page_within_20_seconds_of_the_start() -> Result<()> {
    let program = Program::split()?;
    let _split = program.start(&["60"])?;
    let start = Instant::now();
    // Defaults but for the port and the store.
    let running = Running::start(&program.dir().join("store"), "")?;
    let shown = wait::until("the program's functions", LIVE_MAX, || {
        let answer = running.json("/api/v1/profile?process=split")?;
        let frames = answer["frames"].as_array().context("frames")?;
        let has = |name: &str| frames.iter().any(|frame| frame["name"] == name);
        Ok(["main", "dispatch", "work_a", "work_b", "work_c", "vfs_read"]
            .into_iter()
            .all(has)
            .then_some(answer))
    })?;
    let seconds = start.elapsed().as_secs_f64();
    measured(&format!("the page shows the program {seconds:.1} s after the start"));
    ensure!(seconds <= LIVE_MAX.as_secs_f64(), "{seconds} s");
    ensure!(shown["total_ns"].as_u64().is_some_and(|total| total > 0), "{}", shown["total_ns"]);
    Ok(())
}

/// What was measured, for whoever reads the run.
#[allow(clippy::print_stderr, reason = "measurements stand in the output of the run")]
fn measured(text: &str) {
    eprintln!("{text}");
}
