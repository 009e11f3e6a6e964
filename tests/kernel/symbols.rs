//! Names of functions, of every kind of code.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::kovar;
use tests::pprof::{self, Frame, Profile, Stack};
use tests::process::{self, Process};
use tests::program::Program;

const LIMIT: Duration = Duration::from_secs(60);
const PLAIN: [&str; 3] = ["-O0", "-g", "-fno-omit-frame-pointer"];

/// Profiles the whole machine for three seconds while the program runs; its own stacks.
fn stacks_of(process: &Process, dir: &Path) -> Result<Vec<Stack>> {
    let output = dir.join("p.pb.gz");
    kovar::start_profile(3, &output)?.finish(LIMIT)?.success()?;
    Ok(Profile::read(&output)?.of_pid(process.pid()).cloned().collect())
}

/// More than half of the samples are as they should be.
fn most(stacks: &[Stack], right: impl Fn(&Stack) -> bool) -> Result<()> {
    let (all, found) = (pprof::samples(stacks.iter()), pprof::samples(stacks.iter().filter(|it| right(it))));
    ensure!(all >= 20 && found * 2 > all, "{found} of {all}:\n{}", pprof::describe(stacks.iter()));
    Ok(())
}

/// The number of the line that ends with this comment.
fn line_of(source: &str, comment: &str) -> Result<i64> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(source))?;
    let index = text.lines().position(|line| line.ends_with(comment)).context("no such line")?;
    Ok(i64::try_from(index)? + 1)
}

#[test]
fn inlined_functions_have_frames_with_file_and_line() -> Result<()> {
    let flags = ["-O2", "-g", "-fno-omit-frame-pointer"];
    let program = Program::compile("inlined.c", &flags)?;
    let stacks = stacks_of(&program.start(&[])?, program.dir())?;
    let expected = [("innermost", true), ("between", true), ("outermost", false)];
    let lines = expected.map(|(name, _)| line_of("inlined.c", &format!("// the line of {name}")));
    let [innermost, between, outermost] = lines;
    let lines = [innermost?, between?, outermost?];
    let is = |frame: &Frame, (name, inlined): (&str, bool), line: i64| {
        // The loop around the innermost function's body may stand one line above it.
        let near = (line - 1..=line).contains(&frame.line);
        frame.name == name && frame.inlined == inlined && near && frame.file.ends_with("inlined.c")
    };
    most(&stacks, |stack| {
        let four = stack.frames.get(..4).unwrap_or_default();
        four.len() == 4
            && expected.into_iter().zip(lines).zip(four).all(|((frame, line), found)| is(found, frame, line))
            && four[3].name == "main"
    })
}

#[test]
fn names_of_cpp_are_demangled() -> Result<()> {
    let program = Program::compile("shop.cpp", &PLAIN)?;
    let stacks = stacks_of(&program.start(&[])?, program.dir())?;
    most(&stacks, |stack| stack.leaf().starts_with("shop::Basket<unsigned long>::total") && stack.has("main"))
}

#[test]
fn names_of_rust_are_demangled() -> Result<()> {
    let flags = ["-C", "force-frame-pointers=yes", "-C", "opt-level=1", "--edition", "2024"];
    let program = Program::compile("orchard.rs", &flags)?;
    let stacks = stacks_of(&program.start(&[])?, program.dir())?;
    most(&stacks, |stack| {
        let leaf = stack.leaf();
        leaf.contains("orchard::Apple")
            && leaf.contains("orchard::Fruit")
            && leaf.ends_with("ripen")
            && stack.has("orchard::main")
    })
}

#[test]
fn a_stripped_binary_shows_file_and_offset_and_carries_its_build_id() -> Result<()> {
    let program =
        Program::compile_as("stripped", "burn.c", &[PLAIN.as_slice(), &["-Wl,--build-id=sha1"]].concat())?;
    program.change("strip", &[])?;
    let build_id = build_id(program.path())?;
    let stacks = stacks_of(&program.start(&["30000"])?, program.dir())?;
    let path = program.path().to_string_lossy();
    most(&stacks, |stack| {
        stack.frames.first().is_some_and(|leaf| {
            let offset = leaf.name.strip_prefix("stripped+0x");
            offset.is_some_and(|offset| u64::from_str_radix(offset, 16).is_ok())
                && leaf.mapping == path
                && leaf.build_id == build_id
        })
    })
}

/// As readelf prints it.
fn build_id(path: &Path) -> Result<String> {
    let mut command = std::process::Command::new("readelf");
    command.arg("--notes").arg(path);
    let text = process::finish(command, LIMIT)?.success()?.stdout;
    let id = text.lines().find_map(|line| line.trim().strip_prefix("Build ID: "));
    id.map(str::to_owned).with_context(|| format!("no build id in {text}"))
}

#[test]
fn a_binary_that_was_deleted_while_it_runs_still_has_names() -> Result<()> {
    let program = Program::compile_as("deleted", "burn.c", &PLAIN)?;
    let process = program.start(&["30000"])?;
    program.delete()?;
    let stacks = stacks_of(&process, program.dir())?;
    most(&stacks, |stack| stack.leaf() == "burn_here" && stack.has("main"))
}

#[test]
fn code_that_the_kernel_maps_into_a_process_has_names() -> Result<()> {
    let program = Program::compile("ticktock.c", &PLAIN)?;
    let stacks = stacks_of(&program.start(&[])?, program.dir())?;
    let vdso = |frame: &Frame| frame.mapping.contains("vdso");
    let (inside, named): (Vec<&Stack>, Vec<&Stack>) = (
        stacks.iter().filter(|stack| stack.frames.first().is_some_and(vdso)).collect(),
        stacks.iter().filter(|stack| stack.leaf().contains("clock_gettime")).collect(),
    );
    let named = pprof::samples(named.into_iter());
    ensure!(
        named >= 20 && pprof::samples(inside.into_iter()) > 0,
        "{named} samples in clock_gettime:\n{}",
        pprof::describe(stacks.iter())
    );
    Ok(())
}

#[test]
fn a_function_made_at_run_time_has_the_name_its_map_gives() -> Result<()> {
    let program = Program::compile("jit.c", &PLAIN)?;
    let mut process = program.start(&[])?;
    process.line("ready", LIMIT)?;
    let stacks = stacks_of(&process, program.dir())?;
    let map = format!("/tmp/perf-{}.map", process.pid());
    process.stop()?;
    ensure!(!Path::new(&map).exists(), "{map} was left behind");
    most(&stacks, |stack| stack.leaf() == "jit::made_at_run_time" && stack.has("main"))
}

#[test]
fn a_named_pipe_in_the_place_of_a_map_holds_nothing_up() -> Result<()> {
    let program = Program::compile("jit.c", &PLAIN)?;
    let mut process = program.start(&["fifo"])?;
    process.line("ready", LIMIT)?;
    let beside = Program::compile("burn.c", &PLAIN)?;
    let other = beside.start(&["30000"])?;
    let start = std::time::Instant::now();
    let output = program.dir().join("p.pb.gz");
    kovar::start_profile(3, &output)?.finish(Duration::from_secs(20))?.success()?;
    ensure!(start.elapsed() < Duration::from_secs(8), "it took {:?}", start.elapsed());
    let profile = Profile::read(&output)?;
    let of = |process: &Process| profile.of_pid(process.pid()).cloned().collect::<Vec<_>>();
    most(&of(&process), |stack| stack.leaf() == "[jit]")?;
    most(&of(&other), |stack| stack.leaf() == "burn_here")?;
    Ok(())
}
