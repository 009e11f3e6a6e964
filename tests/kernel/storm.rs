//! Storms of short processes, of one executable and of many never seen before: their time is found, under the right
//! name and container.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tests::build_id;
use tests::container::Container;
use tests::names::{file_name, plain};
use tests::pprof::{self, Profile, Stack};
use tests::process::{self, Process};
use tests::program::Program;
use tests::recording::Recording;
use tests::skip::skip;
use tests::verdict::{INCOMPLETE, percent};

use crate::summary::Summary;
use crate::unwinding::print;

/// The one that is set when nothing else is asked for.
const RATE_HZ: u32 = 97;
const PROCESSES: usize = 1000;
const AT_A_TIME: usize = 50;
const EXECUTABLES: usize = 200;
/// A tick meets a process or misses it by chance where others use the CPUs too: a few of a hundred samples more or less.
/// So many times as many new executables are run and counted together.
const ROUNDS: usize = 2;
/// Of the executables that are never seen before.
const EXECUTABLES_AT_A_TIME: usize = 10;
const FOUND_MIN_PERCENT: f64 = 95.0;
const LIMIT: Duration = Duration::from_secs(300);
/// The linker is told this id, of which each copy gets another one.
const BUILD_ID: [u8; build_id::BYTES] = *b"kovar-storm-id-0000\0";
/// In the message of a failed test.
const NAMELESS_SHOWN: usize = 8;
const FUNCTION: &str = "storm_here_0000";

/// The executable and who starts it.
struct Storm {
    program: Program,
    gale: Program,
}

impl Storm {
    fn new() -> Result<Self> {
        let build_id = build_id::flag(&BUILD_ID);
        let program =
            Program::compile_as("storm-0000", "storm.c", &["-O2", "-fomit-frame-pointer", &build_id])?;
        Ok(Self { program, gale: Program::compile("gale.c", &["-O2"])? })
    }

    /// Copies of the executable into a directory, each with a build id and a name of its function of its own.
    fn copies(&self, numbers: std::ops::Range<usize>) -> Result<(TempDir, Vec<PathBuf>)> {
        let dir = tempfile::Builder::new().prefix("kovar-storm-").tempdir()?;
        let original = fs::read(self.program.path())?;
        let mut paths = Vec::new();
        for number in numbers {
            let mut bytes = original.clone();
            let id = format!("kovar-storm-id-{number:04}\0");
            let replaced = build_id::replace(&mut bytes, &BUILD_ID, id.as_bytes());
            ensure!(replaced == 1, "{replaced} build ids");
            let function = format!("storm_here_{number:04}");
            ensure!(
                build_id::replace(&mut bytes, FUNCTION.as_bytes(), function.as_bytes()) >= 1,
                "no function"
            );
            let path = dir.path().join(format!("storm-{number:04}"));
            fs::write(&path, bytes)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
            paths.push(path);
        }
        Ok((dir, paths))
    }
}

/// What processes say of themselves at their end.
#[derive(Debug, Default)]
struct Spent {
    /// In the function, by the name of the process.
    ns: BTreeMap<String, u64>,
    pids: BTreeSet<u32>,
}

impl Spent {
    /// Adds what was printed; how many processes did.
    fn add(&mut self, printed: &str) -> Result<usize> {
        let mut lines = 0;
        for line in printed.lines().filter_map(|line| line.strip_prefix("storm ")) {
            let of = |key: &str| {
                let value = line.split_whitespace().find_map(|word| word.strip_prefix(key));
                value.with_context(|| format!("no {key} in {line:?}"))
            };
            *self.ns.entry(of("name=")?.to_owned()).or_default() += of("cpu_ns=")?.parse::<u64>()?;
            self.pids.insert(of("pid=")?.parse()?);
            lines += 1;
        }
        Ok(lines)
    }

    fn samples(&self) -> f64 {
        self.ns.values().sum::<u64>() as f64 * f64::from(RATE_HZ) / 1e9
    }

    fn has(&self, stack: &Stack) -> bool {
        self.ns.contains_key(stack.process_name()) && self.pids.contains(&stack.pid)
    }
}

/// What was found of some processes.
#[derive(Debug, Default)]
struct Found {
    expected: f64,
    /// In the function that the process's own executable has.
    named: u64,
    /// In the function of another executable.
    wrong: u64,
    /// Without the container that it ran in.
    astray: u64,
    incomplete: u64,
    /// Of the processes, but not in a function of the storm: by reason and user frames.
    nameless: BTreeMap<String, u64>,
    reasons: BTreeMap<String, u64>,
}

impl Found {
    /// Adds a profile with its account; the container of each process, by its name. What was missed is not expected.
    fn add(
        &mut self,
        (profile, account): (&Profile, &str),
        spent: &Spent,
        container: impl Fn(&str) -> String,
    ) -> Result<()> {
        let found = self;
        found.expected += spent.samples() * (1.0 - Summary::parse(account)?.missed_share());
        for stack in profile.stacks.iter().filter(|stack| spent.has(stack)) {
            let Some(function) = function_of(stack) else {
                *found.nameless.entry(user_part(stack)).or_default() += stack.samples;
                continue;
            };
            let number = stack.process_name().strip_prefix("storm-").unwrap_or_default();
            let right = function.strip_prefix("storm_here_") == Some(number);
            *(if right { &mut found.named } else { &mut found.wrong }) += stack.samples;
            if stack.label("container_id") != container(stack.process_name()) {
                found.astray += stack.samples;
            }
            let reason = stack.label(INCOMPLETE);
            if !reason.is_empty() {
                found.incomplete += stack.samples;
                *found.reasons.entry(reason.to_owned()).or_default() += stack.samples;
            }
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let complete = percent(self.named + self.wrong - self.incomplete, self.named + self.wrong);
        format!(
            "{} of {:.0} expected samples in the right function ({:.1} %), {} in a wrong one, {} in another \
             container, {complete:.1} % complete {:?}",
            self.named,
            self.expected,
            self.share(),
            self.wrong,
            self.astray,
            self.reasons
        )
    }

    /// Percent of what is expected, in the right function.
    fn share(&self) -> f64 {
        self.named as f64 * 100.0 / self.expected
    }

    fn check(&self, what: &str) -> Result<()> {
        let share = self.share();
        let mut nameless: Vec<_> = self.nameless.iter().collect();
        nameless.sort_by_key(|(_, samples)| std::cmp::Reverse(**samples));
        nameless.truncate(NAMELESS_SHOWN);
        ensure!(
            share >= FOUND_MIN_PERCENT,
            "{what}: {share:.1} % of the expected samples; beside them {nameless:?}"
        );
        ensure!(self.wrong == 0, "{what}: {} samples with another executable's name", self.wrong);
        ensure!(self.astray == 0, "{what}: {} samples in another container", self.astray);
        Ok(())
    }
}

/// Why the stack ends where it does, and its user frames.
fn user_part(stack: &Stack) -> String {
    let names = stack.frames.iter().rev().filter(|frame| !frame.is_kernel()).map(|frame| frame.name.as_str());
    format!("{}:{}", stack.label(INCOMPLETE), names.collect::<Vec<_>>().join(";"))
}

/// The function of the storm that a stack has.
fn function_of(stack: &Stack) -> Option<String> {
    let mut names = stack.frames.iter().filter(|frame| !frame.is_kernel()).map(|frame| plain(&frame.name));
    names.find(|name| name.starts_with("storm_here_"))
}

/// Starts it and waits for its end; what each process spent is added.
fn run(command: Command, spent: &mut Spent, processes: usize) -> Result<()> {
    let printed = process::finish(command, LIMIT)?.success()?.stdout;
    let found = spent.add(&printed)?;
    ensure!(found == processes, "{found} of {processes} processes reported:\n{printed}");
    Ok(())
}

/// Times, how many at a time, and whether the files go once they run.
fn arguments(times: usize, at_a_time: usize, files: &str) -> [String; 3] {
    [times.to_string(), at_a_time.to_string(), files.to_owned()]
}

#[test]
fn a_thousand_short_processes_of_one_executable_are_found_one_after_another_and_fifty_at_a_time() -> Result<()>
{
    let storm = Storm::new()?;
    for at_a_time in [1, AT_A_TIME] {
        let mut command = Command::new(storm.gale.path());
        command.args(arguments(PROCESSES, at_a_time, "keep")).arg(storm.program.path());
        let recording = Recording::start(RATE_HZ)?;
        let mut spent = Spent::default();
        let ran = run(command, &mut spent, PROCESSES);
        let (profile, account) = recording.stop()?;
        ran?;
        print(&account);
        let mut found = Found::default();
        found.add((&profile, &account), &spent, |_| String::new())?;
        let what = format!("{PROCESSES} processes, {at_a_time} at a time");
        print(&format!("{what}: {}", found.describe()));
        found.check(&what)?;
    }
    Ok(())
}

#[test]
fn two_hundred_executables_never_seen_before_are_found_in_containers_and_after_their_files_were_deleted()
-> Result<()> {
    let storm = Storm::new()?;
    let mut containers = Vec::new();
    for digit in ['d', 'e'] {
        let Some(container) = Container::create(digit)? else {
            let name = "two_hundred_executables_never_seen_before_are_found_in_containers_and_after_their_files_were_deleted";
            skip(name, "no cgroup v2 hierarchy is mounted");
            return Ok(());
        };
        containers.push(container);
    }
    let mut found = Found::default();
    let what = format!("{EXECUTABLES} executables, half in containers, half deleted");
    for round in 1..=ROUNDS {
        run_executables(&storm, &containers, round * EXECUTABLES, &mut found)?;
    }
    print(&format!("{what}, {ROUNDS} times: {}", found.describe()));
    found.check(&what)
}

/// Runs [`EXECUTABLES`] that are numbered from `first` on, each once: a quarter in each of the two containers, the rest
/// outside.
fn run_executables(storm: &Storm, containers: &[Container], first: usize, found: &mut Found) -> Result<()> {
    let quarter = EXECUTABLES / 4;
    let from = |at: usize| first + at * quarter;
    let contained: Vec<(TempDir, Vec<PathBuf>)> =
        (0..2).map(|at| storm.copies(from(at)..from(at + 1))).collect::<Result<_>>()?;
    let (_deleted_dir, deleted) = storm.copies(from(2)..from(4))?;

    let recording = Recording::start(RATE_HZ)?;
    let mut spent = Spent::default();
    let ran = (|| -> Result<()> {
        for (container, (dir, paths)) in containers.iter().zip(&contained) {
            let inside = tempfile::tempdir()?;
            let mut command = container.command(dir.path(), inside.path(), storm.gale.path());
            command.args(arguments(1, EXECUTABLES_AT_A_TIME, "keep"));
            command.args(paths.iter().map(|path| inside.path().join(name_of(path))));
            run(command, &mut spent, paths.len())?;
        }
        let mut command = Command::new(storm.gale.path());
        command.args(arguments(1, EXECUTABLES_AT_A_TIME, "delete")).args(&deleted);
        run(command, &mut spent, deleted.len())
    })();
    let (profile, account) = recording.stop()?;
    ran?;
    print(&account);
    ensure!(deleted.iter().all(|path| !path.exists()), "their files are there still");
    let container = |process: &str| {
        let number: usize =
            process.strip_prefix("storm-").and_then(|it| it.parse().ok()).unwrap_or(usize::MAX);
        let own = number.checked_sub(first).and_then(|at| containers.get(at / quarter));
        own.map_or_else(String::new, |it| it.id().to_owned())
    };
    found.add((&profile, &account), &spent, container)
}

fn name_of(path: &Path) -> &str {
    path.to_str().map_or("", file_name)
}

#[test]
fn what_a_storm_spent_and_what_was_found_of_it_are_counted() -> Result<()> {
    let mut spent = Spent::default();
    let printed =
        "storm pid=1 name=storm-0001 cpu_ns=1000000000\nstorm pid=2 name=storm-0002 cpu_ns=5\nnoise\n";
    assert_eq!(spent.add(printed)?, 2);
    assert_eq!(spent.ns["storm-0001"], 1_000_000_000);
    assert!(Spent::default().add("storm pid=1 name=x\n").is_err());

    let frame = |name: &str| pprof::Frame { name: name.to_owned(), ..Default::default() };
    let stack = |pid: u32, process: &str, function: &str, container: &str| Stack {
        samples: 10,
        frames: vec![frame(function), frame("main")],
        labels: [("process_name", process), ("container_id", container)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        pid,
    };
    let stacks = vec![
        stack(1, "storm-0001", "storm_here_0001", "one"),
        stack(1, "storm-0001", "storm_here_0002", "one"),
        stack(2, "storm-0002", "storm_here_0002", "one"),
        stack(2, "other", "storm_here_0002", ""),
        stack(3, "storm-0002", "storm_here_0002", "two"),
        stack(2, "storm-0002", "exit", "two"),
    ];
    let profile = Profile { stacks, period_ns: 1 };
    let container = |name: &str| if name == "storm-0001" { "one".to_owned() } else { "two".to_owned() };
    let mut found = Found::default();
    let account = "ticks counted  210\n  on an idle CPU  10\n  delivered  100  50.00 % of the rest\n  lost: ticks_missed  100\n";
    found.add((&profile, account), &spent, container)?;
    assert_eq!((found.named, found.wrong, found.astray), (20, 10, 10));
    assert!((found.expected - 97.0 / 2.0).abs() < 0.01, "half of the ticks were missed");
    assert!(found.check("hand-made").is_err(), "{found:?}");
    Ok(())
}

#[test]
fn a_copy_of_the_executable_runs_under_its_own_name_function_and_build_id() -> Result<()> {
    let storm = Storm::new()?;
    let (_dir, paths) = storm.copies(7..8)?;
    let mut command = Command::new("readelf");
    command.args(["--notes", "--symbols", "--wide"]).arg(&paths[0]);
    let text = process::finish(command, LIMIT)?.success()?.stdout;
    let id: String = b"kovar-storm-id-0007\0".iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(text.contains(&format!("Build ID: {id}")), "{text}");
    ensure!(text.contains("storm_here_0007") && !text.contains(FUNCTION), "{text}");
    let mut command = Command::new(&paths[0]);
    command.arg("1");
    let printed = Process::start(command)?.finish(LIMIT)?.success()?.stdout;
    ensure!(printed.contains("name=storm-0007 "), "{printed}");
    Ok(())
}
