//! The stacks of programs that are hard to unwind: complete to the root, legal, never wrongly named.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tests::container::Container;
use tests::declaration::{Built, Compiler, Declaration, Place};
use tests::declared::DECLARED;
use tests::host;
use tests::pprof::{self, Profile};
use tests::process::Process;
use tests::recording::Recording;
use tests::skip::skip;
use tests::verdict::{Account, Libraries};

use crate::summary::Summary;

/// So that each program needs seconds, and not a minute, to be sampled often enough.
pub(crate) const RATE_HZ: u32 = 997;
/// What each program spends in its three works; at this rate more than [`super::accuracy::SAMPLES_MIN`] samples.
const WORK_MS: u64 = 7_200;
/// Programs that run at a time.
const LANES: usize = 2;
/// For one program, on a machine that others use too.
const PROGRAM_LIMIT: Duration = Duration::from_secs(180);
const COMPLETE_MIN_PERCENT: f64 = 99.0;
const LEGAL_MIN_PERCENT: f64 = 99.0;
/// Where the file has the names.
const NAMED_MIN_PERCENT: f64 = 99.0;

const TEST: &str = "every_program_is_unwound_to_its_root_through_legal_chains_and_without_a_wrong_name";

/// What was found of one program, and what the thread's clock says.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    pub(crate) account: Account,
    /// Of each work.
    pub(crate) cpu_ns: [u64; 3],
    /// Its file has the names of its functions.
    is_named: bool,
    /// Samples whose container is not the one it ran in.
    astray: u64,
}

/// All programs, in one profile.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) programs: Vec<Measured>,
    pub(crate) summary: Summary,
}

/// Taken once for every test that asks.
pub(crate) fn measured() -> Result<&'static Run> {
    static MEASURED: OnceLock<Result<Run, String>> = OnceLock::new();
    match MEASURED.get_or_init(|| measure().map_err(|error| format!("{error:#}"))) {
        Ok(measured) => Ok(measured),
        Err(text) => Err(anyhow!("{text}")),
    }
}

fn measure() -> Result<Run> {
    let container = Container::create('c')?;
    let build = |it: &Declaration| it.build().with_context(|| it.name);
    let can_run = |it: &&Declaration| match lacks(it, container.is_some()) {
        Some(why) => {
            skip(TEST, &format!("{}: {why}", it.name));
            false
        }
        None => true,
    };
    let built: Vec<Built> = DECLARED.iter().filter(can_run).map(build).collect::<Result<_>>()?;
    let recording = Recording::start(RATE_HZ)?;
    let ran = run(&built, container.as_ref());
    let (profile, account) = recording.stop()?;
    let mut libraries = Libraries::default();
    let programs: Vec<Measured> = built
        .iter()
        .zip(ran?)
        .map(|(built, ran)| hold(built, &ran, &profile, container.as_ref(), &mut libraries))
        .collect();
    print(&format!("at {RATE_HZ} Hz: {account}{}", table(&programs)));
    Ok(Run { programs, summary: Summary::parse(&account)? })
}

/// What keeps a program from running here.
fn lacks(declaration: &Declaration, has_container: bool) -> Option<&'static str> {
    let needs_go = declaration.compiler == Compiler::Go;
    match declaration.place {
        _ if needs_go && host::find_program("go").is_none() => Some("there is no go"),
        Place::Container if !has_container => Some("no cgroup v2 hierarchy is mounted"),
        _ => None,
    }
}

/// Holds what was sampled of a program against its declaration.
fn hold(
    built: &Built,
    ran: &Ran,
    profile: &Profile,
    container: Option<&Container>,
    libraries: &mut Libraries,
) -> Measured {
    let Declaration { name, place, .. } = built.declaration;
    // By its name too: before it has become the program, a process is another one.
    let own = || profile.of_process(name).filter(|stack| ran.pids.contains(&stack.pid));
    let container = container.filter(|_| place == Place::Container);
    let expected = container.map_or("", Container::id);
    let astray = pprof::samples(own().filter(|stack| stack.label("container_id") != expected));
    Measured {
        name,
        is_named: built.declaration.is_named(),
        account: Account::of(built, own(), libraries),
        cpu_ns: ran.cpu_ns,
        astray,
    }
}

/// What a program said of itself.
#[derive(Debug, Clone, Default)]
struct Ran {
    pids: Vec<u32>,
    /// Of each work.
    cpu_ns: [u64; 3],
}

/// Runs all, some at a time; what each measured, in the order of the programs.
fn run(built: &[Built], container: Option<&Container>) -> Result<Vec<Ran>> {
    let waiting: Mutex<VecDeque<usize>> = Mutex::new((0..built.len()).collect());
    let measured = Mutex::new(vec![Ran::default(); built.len()]);
    let lane = || -> Result<()> {
        loop {
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(index) = next else { return Ok(()) };
            let ran = run_one(&built[index], container).with_context(|| built[index].declaration.name)?;
            measured.lock().unwrap_or_else(PoisonError::into_inner)[index] = ran;
        }
    };
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        lanes
            .into_iter()
            .try_for_each(|lane| lane.join().map_err(|panic| anyhow!("a lane panicked: {panic:?}"))?)
    })?;
    Ok(measured.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn run_one(built: &Built, container: Option<&Container>) -> Result<Ran> {
    let Declaration { name, place, .. } = built.declaration;
    let inside = tempfile::tempdir()?;
    let mut command = match place {
        Place::Host | Place::Deleted => Command::new(built.program.path()),
        Place::Container => {
            let container = container.context("no container")?;
            container.command(built.program.dir(), inside.path(), &inside.path().join(name))
        }
    };
    command.arg(WORK_MS.to_string()).arg(built.program.dir());
    let process = Process::start(command)?;
    if place == Place::Deleted {
        built.program.delete()?;
    }
    let pid = process.pid();
    let printed = process.finish(PROGRAM_LIMIT)?.success()?.stdout;
    ensure!(place != Place::Container || is_empty(inside.path())?, "its file system is seen from outside");
    Ran::parse(pid, &printed)
}

fn is_empty(dir: &Path) -> Result<bool> {
    Ok(dir.read_dir()?.next().is_none())
}

impl Ran {
    /// `worker=2` for each process that it forked, and a line `cpu_ns work_a=1 work_b=2 work_c=3`.
    fn parse(pid: u32, printed: &str) -> Result<Self> {
        let values = |key: &str| -> Vec<&str> {
            printed.split_whitespace().filter_map(|word| word.strip_prefix(key)?.strip_prefix('=')).collect()
        };
        let of = |work: &str| -> Result<u64> {
            let value = values(work).first().copied();
            value.with_context(|| format!("no {work}= in {printed:?}"))?.parse().context("a number")
        };
        let workers = values("worker").into_iter().map(str::parse).collect::<Result<Vec<u32>, _>>()?;
        let pids = [vec![pid], workers].concat();
        Ok(Self { pids, cpu_ns: [of("work_a")?, of("work_b")?, of("work_c")?] })
    }
}

fn table(measured: &[Measured]) -> String {
    let mut text = format!(
        "{:<14}{:>8}{:>10}{:>12}{:>9}{:>12}{:>8}{:>6}{:>8}  {:<18}  reasons\n",
        "program",
        "samples",
        "expected",
        "complete %",
        "legal %",
        "transitions",
        "illegal",
        "wrong",
        "unnamed",
        "split %"
    );
    for Measured { name, account, cpu_ns, .. } in measured {
        let expected = cpu_ns.iter().sum::<u64>() as f64 * f64::from(RATE_HZ) / 1e9;
        let [a, b, c] = account.shares();
        let reasons: Vec<String> =
            account.reasons.iter().map(|(reason, samples)| format!("{reason} {samples}")).collect();
        // Writing to a string cannot fail.
        let _infallible = writeln!(
            text,
            "{name:<14}{:>8}{expected:>10.0}{:>12.2}{:>9.2}{:>12}{:>8}{:>6}{:>8}  {:<18}  {}",
            account.samples,
            account.percent(account.complete),
            account.percent(account.legal),
            account.transitions,
            account.illegal,
            account.wrong(),
            account.unnamed,
            format!("{a:.2}/{b:.2}/{c:.2}"),
            reasons.join(", ")
        );
    }
    text
}

#[test]
fn every_program_is_unwound_to_its_root_through_legal_chains_and_without_a_wrong_name() -> Result<()> {
    let mut problems = String::new();
    for Measured { name, account, is_named, astray, .. } in &measured()?.programs {
        let (complete, legal) = (account.percent(account.complete), account.percent(account.legal));
        let mut problem = |text: String| problems.push_str(&format!("{name}: {text}\n"));
        if complete < COMPLETE_MIN_PERCENT {
            problem(format!("{complete:.2} % complete: {:?}", account.reasons));
        }
        if legal < LEGAL_MIN_PERCENT {
            problem(format!("{legal:.2} % legal:\n{}", account.describe()));
        }
        if account.wrong() > 0 {
            problem(format!("wrong names: {:?}\n{}", account.wrong_names, account.describe()));
        }
        let named = account.percent(account.samples - account.unnamed);
        if *is_named && named < NAMED_MIN_PERCENT {
            problem(format!("{named:.2} % with a name for each of its own frames"));
        }
        if *astray > 0 {
            problem(format!("{astray} samples in another container than its own"));
        }
    }
    if !problems.is_empty() {
        bail!("{problems}");
    }
    Ok(())
}

#[test]
fn what_a_program_measured_of_itself_is_read_as_it_prints_it() -> Result<()> {
    let ran = Ran::parse(7, "worker=8\nworker=9\ncpu_ns work_a=6 work_b=30 work_c=1\n")?;
    assert_eq!((ran.pids, ran.cpu_ns), (vec![7, 8, 9], [6, 30, 1]));
    assert!(Ran::parse(7, "cpu_ns work_a=6 work_b=3\n").is_err());
    assert!(Ran::parse(7, "work_a=x work_b=1 work_c=2").is_err());
    Ok(())
}

/// What was measured, for whoever reads the run.
#[allow(clippy::print_stderr, reason = "measurements stand in the output of the run")]
pub(crate) fn print(text: &str) {
    eprintln!("{text}");
}
