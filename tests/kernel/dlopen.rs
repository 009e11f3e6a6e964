//! Libraries that are loaded while the program runs, each never seen before: their frames are complete at once.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::build_id;
use tests::pprof::{self, Profile, Stack};
use tests::process;
use tests::program::Program;
use tests::recording::Recording;
use tests::verdict::{INCOMPLETE, percent};

use crate::summary::Summary;
use crate::unwinding::print;

const RATE_HZ: u32 = 997;
/// Each is worked in for 20 ms in young(), and for 40 ms of CPU time in old().
const LIBRARIES: usize = 100;
const OLD_SAMPLES_MIN: u64 = 3_000;
/// Of the samples that the time in old() is worth.
const FOUND_MIN_PERCENT: f64 = 97.0;
const OLD_COMPLETE_MIN_PERCENT: f64 = 99.9;
const LIMIT: Duration = Duration::from_secs(120);
/// The linker is told this id, of which each copy gets another one.
const BUILD_ID: [u8; build_id::BYTES] = *b"kovar-aging-id-0000\0";

#[test]
fn the_frames_of_a_library_never_seen_before_are_complete_20_ms_after_it_was_loaded() -> Result<()> {
    let program = Program::compile("fresh.c", &["-O2", "-fomit-frame-pointer", "-ldl"])?;
    let libraries = libraries(&program)?;
    let mut command = Command::new(program.path());
    command.args(&libraries);
    let recording = Recording::start(RATE_HZ)?;
    let ran = process::finish(command, LIMIT);
    let (profile, account) = recording.stop()?;
    let missed_share = Summary::parse(&account)?.missed_share();
    let printed = ran?.success()?.stdout;
    ensure!(printed.contains(&format!("loads={LIBRARIES} ")), "{printed}");

    let [young, old] = ["young", "old"].map(|function| Aged::of(&profile, function));
    print(&format!(
        "{LIBRARIES} fresh libraries at {RATE_HZ} Hz: in the first 20 ms {young}; from then on {old}; of the library without a name \
         {} samples",
        unnamed(&profile)
    ));
    ensure!(old.samples >= OLD_SAMPLES_MIN, "only {old}");
    let expected = old_ns(&printed)? as f64 * f64::from(RATE_HZ) / 1e9 * (1.0 - missed_share);
    // What has no name is missing here.
    ensure!(
        old.samples as f64 >= FOUND_MIN_PERCENT / 100.0 * expected,
        "{old}, but {expected:.0} were to be expected; in no function that is known:\n{}",
        pprof::describe(profile.of_process("fresh").filter(|stack| is_elsewhere(stack)))
    );
    ensure!(
        old.percent() >= OLD_COMPLETE_MIN_PERCENT,
        "{old}:\n{}",
        pprof::describe(
            profile.of_process("fresh").filter(|stack| stack.has("old") && !is_complete(stack, "old"))
        )
    );
    Ok(())
}

/// Copies of the library, each with a build id of its own.
fn libraries(program: &Program) -> Result<Vec<PathBuf>> {
    let flags = ["-O2", "-shared", "-fPIC", "-fomit-frame-pointer", &build_id::flag(&BUILD_ID)];
    let library = Program::compile_as("aging.so", "aging.c", &flags)?;
    let original = fs::read(library.path())?;
    (0..LIBRARIES)
        .map(|number| {
            let mut bytes = original.clone();
            let id = format!("kovar-aging-id-{number:04}\0");
            let replaced = build_id::replace(&mut bytes, &BUILD_ID, id.as_bytes());
            ensure!(replaced == 1, "{replaced} build ids");
            let path = program.dir().join(format!("libaging-{number:04}.so"));
            fs::write(&path, bytes)?;
            Ok(path)
        })
        .collect()
}

/// Samples in one of the library's functions.
#[derive(Debug, Default)]
struct Aged {
    samples: u64,
    complete: u64,
}

impl Aged {
    fn of(profile: &Profile, function: &str) -> Self {
        let inside = || profile.of_process("fresh").filter(|stack| stack.has(function));
        let complete = inside().filter(|stack| is_complete(stack, function));
        Self { samples: pprof::samples(inside()), complete: pprof::samples(complete) }
    }

    fn percent(&self) -> f64 {
        percent(self.complete, self.samples)
    }
}

impl std::fmt::Display for Aged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} samples complete ({:.2} %)", self.complete, self.samples, self.percent())
    }
}

/// From the root through the program into the library's function.
fn is_complete(stack: &Stack, function: &str) -> bool {
    let user = stack.frames.iter().rev().filter(|frame| !frame.is_kernel());
    let names: Vec<&str> = user.map(|frame| frame.name.as_str()).collect();
    let place = |name: &str| names.iter().position(|it| *it == name);
    stack.label(INCOMPLETE).is_empty()
        && names.first() == Some(&"_start")
        && place("main").is_some_and(|main| {
            names.get(main + 1) == Some(&"visit") && names.get(main + 2) == Some(&function)
        })
}

/// In none of the functions where the program spends its time.
fn is_elsewhere(stack: &Stack) -> bool {
    !["young", "old", "warm_up", "dlopen", "dlclose"].iter().any(|name| stack.has(name))
}

/// Samples of the libraries with frames that have no name.
fn unnamed(profile: &Profile) -> u64 {
    let is_unnamed = |stack: &&Stack| {
        stack.frames.iter().any(|frame| frame.mapping.contains("libaging-") && frame.name.contains("+0x"))
    };
    pprof::samples(profile.of_process("fresh").filter(is_unnamed))
}

fn old_ns(printed: &str) -> Result<u64> {
    let word = printed.split_whitespace().find_map(|word| word.strip_prefix("old_ns="));
    word.context("no old_ns=")?.parse().context("a number")
}

#[test]
fn a_stack_is_complete_only_with_its_root_its_caller_and_without_a_reason() {
    let stack = |names: &str, reason: &str| Stack {
        samples: 1,
        frames: names
            .split_whitespace()
            .rev()
            .map(|name| pprof::Frame { name: name.to_owned(), ..Default::default() })
            .collect(),
        labels: [(INCOMPLETE.to_owned(), reason.to_owned())].into(),
        pid: 1,
    };
    assert!(is_complete(&stack("_start libc.so.6+0x1 main visit old turn", ""), "old"));
    assert!(!is_complete(&stack("_start libc.so.6+0x1 main visit old turn", "stack_cut"), "old"));
    assert!(!is_complete(&stack("_start libc.so.6+0x1 main visit young turn", ""), "old"));
    assert!(!is_complete(&stack("_start libc.so.6+0x1 main old turn", ""), "old"));
    assert!(!is_complete(&stack("main visit old turn", ""), "old"));
}
