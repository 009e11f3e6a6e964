//! The profiler's steady state: kovar run for a while, every CPU busy, against the limits of the design; then its peers
//! in the same way, one after the other, and all of them again with short processes on top.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;

use super::cost::BpfStats;
use super::document::{self, Part};
use super::load::{Load, Programs};
use super::steady::{Measured, Times};
use super::subject::Subject;
use super::table::{self, Group};
use super::{counted, machine, memory};
use crate::{lab, process, run as build, setup, workspace};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long each is measured, after the warm-up.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// How long symbols, caches and maps may fill before.
    #[arg(long, default_value_t = 30)]
    warm_up_seconds: u64,
    /// What is measured beside kovar.
    #[arg(long, value_enum, default_value_t = Peers::All)]
    peers: Peers,
    /// Counts instructions instead, in a guest with one emulated CPU, beside the OpenTelemetry profiler.
    #[arg(long, conflicts_with_all = ["memory", "peers", "seconds", "warm_up_seconds"])]
    vm: bool,
    /// How often each is counted in the guest; the median is taken.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100), requires = "vm", conflicts_with = "memory")]
    runs: u32,
    /// Measures the memory charged to each, under many different programs, beside the OpenTelemetry profiler.
    #[arg(long, conflicts_with_all = ["peers", "seconds", "warm_up_seconds"])]
    memory: bool,
    /// For how long each one's memory is measured.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600), requires = "memory", conflicts_with = "vm")]
    minutes: u64,
    /// Writes the result into docs/performance.md.
    #[arg(long)]
    write: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Peers {
    /// kovar alone.
    None,
    /// The OpenTelemetry eBPF profiler and `perf record`.
    All,
}

/// What can be measured beside kovar, if it can be here.
struct Peer {
    name: &'static str,
    subject: Option<Subject>,
}

pub(super) fn run(args: &Args) -> Result<bool> {
    match (args.vm, args.memory) {
        (true, _) => counted::run(args.runs, args.write),
        (_, true) => memory::run(Duration::from_secs(args.minutes * 60), args.write),
        _ => steady(args),
    }
}

fn steady(args: &Args) -> Result<bool> {
    if !setup::is_root() {
        bail!("measuring BPF programs needs root; start this with sudo -E");
    }
    if args.write {
        document::check(Part::Steady)?;
    }
    build::build()?;
    lab::watch_signals();
    let dir = workspace::target().join("bench");
    let programs = Programs::compile(&dir)?;
    let mut skipped = Vec::new();
    let peers = match args.peers {
        Peers::None => Vec::new(),
        Peers::All => vec![
            Peer::prepare("OpenTelemetry", Subject::open_telemetry, &mut skipped),
            Peer::prepare("perf", Subject::perf, &mut skipped),
        ],
    };
    let times = Times {
        warm_up: Duration::from_secs(args.warm_up_seconds),
        measured: Duration::from_secs(args.seconds),
    };
    let groups = measure(&dir, &programs, &peers, times, &mut skipped)?;
    let text = report(args, &peers, &groups, &skipped)?;
    println!("{text}");
    if args.write {
        document::write(Part::Steady, &text)?;
    }
    Ok(table::is_within_limits(&groups))
}

fn measure(
    dir: &Path,
    programs: &Programs,
    peers: &[Peer],
    times: Times,
    skipped: &mut Vec<String>,
) -> Result<Vec<Group>> {
    let _stats = BpfStats::enable()?;
    let mut groups = Vec::new();
    for load in Load::ALL {
        eprintln!("kovar, {} ...", load.name());
        let kovar = Subject::Kovar.measure(dir, programs, load, times)?;
        let mut measured = Vec::new();
        for peer in peers {
            measured.push(peer.measure(dir, programs, load, times, skipped)?);
        }
        groups.push(Group { load, kovar, peers: measured });
    }
    Ok(groups)
}

impl Peer {
    fn prepare(name: &'static str, prepare: fn() -> Result<Subject>, skipped: &mut Vec<String>) -> Self {
        let subject = prepare();
        let subject = subject.map_err(|error| skip(name, &error, skipped)).ok();
        Self { name, subject }
    }

    /// None when it cannot be measured here.
    ///
    /// # Errors
    /// When this process is told to stop.
    fn measure(
        &self,
        dir: &Path,
        programs: &Programs,
        load: Load,
        times: Times,
        skipped: &mut Vec<String>,
    ) -> Result<Option<Measured>> {
        let Some(subject) = &self.subject else { return Ok(None) };
        eprintln!("{}, {} ...", self.name, load.name());
        match subject.measure(dir, programs, load, times) {
            Ok(measured) => Ok(Some(measured)),
            Err(error) if lab::is_told() => Err(error),
            Err(error) => {
                skip(&format!("{} ({})", self.name, load.name()), &error, skipped);
                Ok(None)
            }
        }
    }
}

fn skip(name: &str, error: &anyhow::Error, skipped: &mut Vec<String>) {
    let why = format!("{error:#}");
    eprintln!("{name}: {why}");
    // A log may follow the first line.
    skipped.push(format!("skipped: {name}: {}", why.lines().next().unwrap_or_default()));
}

/// The table with all that says where it came from.
fn report(args: &Args, peers: &[Peer], groups: &[Group], skipped: &[String]) -> Result<String> {
    let subjects = [&Subject::Kovar].into_iter().chain(peers.iter().filter_map(|peer| peer.subject.as_ref()));
    let versions: Vec<String> = subjects.map(Subject::version).collect::<Result<_>>()?;
    let date = process::capture(Command::new("date").args(["--utc", "+%Y-%m-%d"]))?;
    let names: Vec<&str> = peers.iter().map(|peer| peer.name).collect();
    let skipped: String = skipped.iter().map(|line| format!("\n{line}\n")).collect();
    Ok(format!(
        "{}; {}. {}; each measured for {} s after {} s of warm-up, by\n\n```sh\n{}\n```\n\n{}{skipped}",
        date.trim(),
        machine::describe(),
        versions.join(", "),
        args.seconds,
        args.warm_up_seconds,
        machine::command_line(),
        table::markdown(&names, groups),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skipped_peer_says_why_in_one_line() {
        let mut skipped = Vec::new();
        let peer = Peer::prepare("perf", || bail!("not installed\nand a log"), &mut skipped);
        assert!(peer.subject.is_none());
        assert_eq!(skipped, ["skipped: perf: not installed"]);
    }
}
