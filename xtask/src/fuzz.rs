//! `fuzz`: mutated bytes for every parser of what comes from outside, each target for a while.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::setup::{self, Purpose};
use crate::test::count::Tally;
use crate::{process, workspace};

const BUILD_LIMIT: Duration = Duration::from_secs(3600);
/// Beyond its time a target may finish one input and write down its findings.
const GRACE: Duration = Duration::from_secs(120);
/// One input that takes longer is a finding.
const INPUT_LIMIT_S: u32 = 10;
/// More memory, or a single allocation that is larger, is a finding.
const MEMORY_MAX_MIB: u32 = 2048;
const ALLOCATION_MAX_MIB: u32 = 256;
/// Last lines of a failed target that are shown.
const LINES_SHOWN_MAX: usize = 60;
const EXECUTIONS: &str = "stat::number_of_executed_units:";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The targets to run, by the names of their files in fuzz/fuzz_targets; all when none is named.
    targets: Vec<String>,
    /// How long each target runs.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    let root = workspace::root();
    let targets = select(targets(&root)?, &args.targets)?;
    let host = match host() {
        Ok(host) => host,
        Err(missing) => {
            println!("{missing}");
            targets
                .iter()
                .for_each(|target| println!("skipped: {target}: its tools are missing (see above)"));
            println!("{}", Tally { skipped: targets.len(), ..Tally::default() });
            return Ok(false);
        }
    };
    if !setup::prepare(Purpose::Run)? {
        bail!("what building kovar needs is not installed (see above)");
    }
    build(&targets)?;
    let mut total = Tally::default();
    for target in &targets {
        let binary = output_dir().join(&host).join("release").join(target);
        match fuzz(&root, target, &binary, args.seconds)? {
            Ok(executions) => {
                println!("ok: {target}: {executions} executions in {} s", args.seconds);
                total.passed += 1;
            }
            Err(finding) => {
                println!("{finding}\nFAILED {target}");
                total.failed += 1;
            }
        }
    }
    println!("{total}");
    Ok(total.failed == 0)
}

/// Names of all targets: every file directly in fuzz/fuzz_targets is one.
fn targets(root: &Path) -> Result<Vec<String>> {
    let dir = root.join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
        let path = entry.with_context(|| dir.display().to_string())?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

fn select(all: Vec<String>, wanted: &[String]) -> Result<Vec<String>> {
    if let Some(unknown) = wanted.iter().find(|name| !all.contains(name)) {
        bail!("no fuzz target is called {unknown}; there are {}", all.join(", "));
    }
    Ok(if wanted.is_empty() { all } else { wanted.to_vec() })
}

/// The triple that nightly builds for, or what is missing and how to get it.
fn host() -> Result<String, String> {
    let nightly = workspace::find_program("rustup").and_then(|rustup| {
        process::capture(Command::new(rustup).args(["run", "nightly", "rustc", "--version", "--verbose"]))
            .ok()
    });
    let host = nightly.as_deref().and_then(host_in).map(str::to_owned);
    let mut missing = Vec::new();
    if host.is_none() {
        missing.push(
            "missing: a nightly compiler; install rustup (https://rustup.rs), then run `rustup toolchain install \
             nightly --profile minimal`",
        );
    }
    if workspace::find_program("cargo-fuzz").is_none() {
        missing.push("missing: cargo-fuzz; run `cargo install cargo-fuzz --locked`");
    }
    if workspace::find_program("c++").is_none() {
        missing.push(
            "missing: a C++ compiler, which builds the fuzzing engine; on Debian run `apt install g++`",
        );
    }
    host.filter(|_| missing.is_empty()).ok_or_else(|| missing.join("\n"))
}

fn host_in(version: &str) -> Option<&str> {
    version.lines().find_map(|line| line.strip_prefix("host: "))
}

fn output_dir() -> PathBuf {
    workspace::target().join("fuzz")
}

fn build(targets: &[String]) -> Result<()> {
    let rustup = workspace::find_program("rustup").context("rustup")?;
    let mut build = Command::new(rustup);
    build.current_dir(workspace::root());
    build.args(["run", "nightly", "cargo", "fuzz", "build", "--target-dir"]).arg(output_dir());
    if let [target] = targets {
        build.arg(target);
    }
    // Those of the cargo that started this xtask.
    for name in ["CARGO", "CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_TARGET_DIR", "RUSTUP_TOOLCHAIN"]
    {
        build.env_remove(name);
    }
    process::step("building the fuzz targets", &mut build, BUILD_LIMIT)
}

/// How many inputs were tried, or what was found.
fn fuzz(root: &Path, target: &str, binary: &Path, seconds: u32) -> Result<Result<u64, String>> {
    let (corpus, artifacts) =
        (output_dir().join("corpus").join(target), output_dir().join("artifacts").join(target));
    for dir in [&corpus, &artifacts] {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    let mut command = Command::new(binary);
    command.args(options(seconds)).arg(format!("-artifact_prefix={}/", artifacts.display())).arg(&corpus);
    let seeds = root.join("fuzz/seeds").join(target);
    if seeds.is_dir() {
        command.arg(&seeds);
    }
    let mut report = Report::default();
    let limit = Duration::from_secs(seconds.into()) + GRACE;
    let status = process::lines(target, command, limit, |line| report.read(line))?;
    Ok(report.finish(status.success()))
}

fn options(seconds: u32) -> [String; 5] {
    [
        format!("-max_total_time={seconds}"),
        format!("-timeout={INPUT_LIMIT_S}"),
        format!("-rss_limit_mb={MEMORY_MAX_MIB}"),
        format!("-malloc_limit_mb={ALLOCATION_MAX_MIB}"),
        "-print_final_stats=1".to_owned(),
    ]
}

/// What a target printed.
#[derive(Debug, Default)]
struct Report {
    executions: Option<u64>,
    last: VecDeque<String>,
}

impl Report {
    fn read(&mut self, line: &str) {
        if let Some(number) = line.strip_prefix(EXECUTIONS) {
            self.executions = number.trim().parse().ok();
        }
        if is_progress(line) {
            return;
        }
        if self.last.len() == LINES_SHOWN_MAX {
            self.last.pop_front();
        }
        self.last.push_back(line.to_owned());
    }

    /// A target that tried nothing has failed, whatever its exit status.
    fn finish(self, succeeded: bool) -> Result<u64, String> {
        match self.executions {
            Some(executions) if succeeded && executions > 0 => Ok(executions),
            _ => Err(Vec::from(self.last).join("\n")),
        }
    }
}

/// `#797 NEW cov: ...`; frames of a stack trace are indented.
fn is_progress(line: &str) -> bool {
    line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_declared_and_has_seeds() {
        let root = workspace::root();
        let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
        let targets = targets(&root).unwrap();
        assert_eq!(manifest.matches("[[bin]]").count(), targets.len());
        for target in targets {
            assert!(manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")), "{target}");
            assert!(fs::read_dir(root.join("fuzz/seeds").join(&target)).unwrap().count() > 0, "{target}");
        }
    }

    #[test]
    fn an_unknown_target_is_an_error_that_lists_the_known() {
        let all = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(select(all.clone(), &[]).unwrap(), all);
        assert_eq!(select(all.clone(), &["b".to_owned()]).unwrap(), ["b"]);
        let error = select(all, &["c".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("called c") && error.contains("a, b"), "{error}");
    }

    #[test]
    fn a_target_passes_only_when_it_succeeded_and_tried_something() {
        let report = |lines: &[&str], succeeded| {
            let mut report = Report::default();
            lines.iter().for_each(|line| report.read(line));
            report.finish(succeeded)
        };
        let stats = "stat::number_of_executed_units: 51234";
        assert_eq!(report(&["Done", stats], true), Ok(51_234));
        assert_eq!(report(&["#2 NEW", "panicked", stats], false), Err(format!("panicked\n{stats}")));
        assert!(report(&["Done"], true).is_err());
        assert!(report(&["stat::number_of_executed_units: 0"], true).is_err());
        let many: Vec<String> = (0..100).map(|line| line.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(report(&many, false).unwrap_err().starts_with("40\n"));
    }

    #[test]
    fn the_host_is_read_from_the_compilers_version() {
        assert_eq!(host_in("rustc 1.97.0-nightly\nbinary: rustc\nhost: x86_64-a-b\n"), Some("x86_64-a-b"));
        assert_eq!(host_in("rustc 1.97.0"), None);
    }
}
