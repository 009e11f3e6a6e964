//! Mappings that change, files that only claim to be another, and processes that change their cgroup.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::container::Container;
use tests::kovar;
use tests::pprof::{self, Profile};
use tests::program::Program;
use tests::skip::skip;

const LIMIT: Duration = Duration::from_secs(60);
const FLAGS: [&str; 3] = ["-O0", "-g", "-fno-omit-frame-pointer"];

#[test]
fn a_library_loaded_after_the_first_sample_has_its_functions() -> Result<()> {
    let program = Program::compile_as("late", "late.c", &FLAGS)?;
    let library = Program::compile_as(
        "liblate.so",
        "late.c",
        &[&FLAGS[..], &["-shared", "-fPIC", "-DLIBRARY"]].concat(),
    )?;
    let output = program.dir().join("p.pb.gz");
    let mut profiler = kovar::start_profile(5, &output)?;
    kovar::wait_sampling(&mut profiler)?;
    let path = library.path().display().to_string();
    program.start(&["60", "3000", &path])?.finish(LIMIT)?.success()?;
    profiler.finish(LIMIT)?.success()?;

    let profile = Profile::read(&output)?;
    let all = profile.of_process("late").map(|stack| stack.samples).sum::<u64>();
    let named = profile
        .of_process("late")
        .filter(|stack| stack.has("in_library"))
        .map(|stack| stack.samples)
        .sum::<u64>();
    ensure!(
        all > 20 && named * 100 >= all * 85,
        "{named} of {all}: {}",
        pprof::describe(profile.of_process("late"))
    );
    Ok(())
}

#[test]
fn a_build_id_that_another_file_claims_too_does_not_give_it_that_files_names() -> Result<()> {
    let same = "-Wl,--build-id=0x0123456789abcdef0123456789abcdef01234567";
    let compile =
        |name, function| Program::compile_as(name, "burn.c", &[&FLAGS[..], &[same, function]].concat());
    let (evil, good) = (compile("evil", "-DFUNCTION=evil_name")?, compile("good", "-DFUNCTION=good_name")?);
    let output = good.dir().join("p.pb.gz");
    let mut profiler = kovar::start_profile(4, &output)?;
    kovar::wait_sampling(&mut profiler)?;
    evil.start(&["800"])?.finish(LIMIT)?.success()?;
    good.start(&["800"])?.finish(LIMIT)?.success()?;
    profiler.finish(LIMIT)?.success()?;

    let profile = Profile::read(&output)?;
    for (process, own, others) in [("evil", "evil_name", "good_name"), ("good", "good_name", "evil_name")] {
        let describe = || pprof::describe(profile.of_process(process));
        ensure!(profile.of_process(process).any(|stack| stack.has(own)), "{}", describe());
        ensure!(!profile.of_process(process).any(|stack| stack.has(others)), "{}", describe());
    }
    Ok(())
}

#[test]
fn samples_stay_with_the_container_they_ran_in_when_the_process_moves() -> Result<()> {
    let name = "samples_stay_with_the_container_they_ran_in_when_the_process_moves";
    let (Some(first), Some(second)) = (Container::create('a')?, Container::create('b')?) else {
        skip(name, "no cgroup v2 hierarchy is mounted");
        return Ok(());
    };
    let program = Program::compile_as("mover", "burn.c", &FLAGS)?;
    let output = program.dir().join("p.pb.gz");
    let mut profiler = kovar::start_profile(7, &output)?;
    kovar::wait_sampling(&mut profiler)?;
    let mover = program.start(&["60000"])?;
    first.take(mover.pid())?;
    // Time itself is what is divided here.
    thread::sleep(Duration::from_secs(3));
    second.take(mover.pid())?;
    thread::sleep(Duration::from_secs(1));
    first.take(mover.pid())?;
    thread::sleep(Duration::from_secs(1));
    drop(mover);
    profiler.finish(LIMIT)?.success()?;

    let profile = Profile::read(&output)?;
    let of = |id: &str| {
        let inside = profile.of_process("mover").filter(|stack| stack.label("container_id") == id);
        inside.map(|stack| stack.samples).sum::<u64>()
    };
    let (first, second) = (of(first.id()), of(second.id()));
    let share = second * 100 / (first + second).max(1);
    ensure!(
        (10..=30).contains(&share),
        "{second} of {} samples where it was a fifth of the time",
        first + second
    );
    Ok(())
}
