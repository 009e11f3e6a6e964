//! What one sample and the start cost in instructions: kovar and the OpenTelemetry profiler, each alone in a guest whose
//! time is the count of its instructions, beside a program that spins at one depth after the other.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::document::{self, Part};
use super::machine;
use crate::lab::otel_profiler;
use crate::setup::{self, Purpose};
use crate::vm::{self, Program, Root};
use crate::{process, run as build, workspace};

mod figures;
mod table;

use figures::Figures;

const KERNEL: &str = "6.1";
const INIT: &str = "tests/vm/profiler.sh";
/// How many pushes, five seconds apart, each depth is measured for.
const PUSHES: u32 = 6;
/// From power on to power off: the peer alone needs about 9 G instructions to start.
const GUEST_LIMIT: Duration = Duration::from_secs(3600);
const STATIC: &[&str] = &["-static", "-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls"];

/// # Errors
/// When a guest does not come to its end, or the result cannot be written.
pub(super) fn run(runs: u32, is_written: bool) -> Result<bool> {
    if is_written {
        document::check(Part::Counted)?;
    }
    if !setup::prepare(Purpose::Vm)? {
        bail!("what a guest needs is not installed (see above)");
    }
    build::build()?;
    let peer = otel_profiler::build().context("the OpenTelemetry profiler")?;
    let kovar = root("bench-kovar", "kovar", vec![Program::Kovar, c("tests/vm/sink.c")]);
    let peer = root("bench-peer", "peer", vec![Program::Built(peer.profiler), Program::Built(peer.sink)]);
    let (mut of_kovar, mut of_peer) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        for (root, figures) in [(&kovar, &mut of_kovar), (&peer, &mut of_peer)] {
            eprintln!("{}, run {run} of {runs} ...", root.name);
            figures.push(measure(root)?);
        }
    }
    let (of_kovar, of_peer) = (Figures::median(&of_kovar)?, Figures::median(&of_peer)?);
    let rows = table::rows(&of_kovar, &of_peer);
    let text = report(runs, &table::markdown(&rows))?;
    println!("{text}");
    if is_written {
        document::write(Part::Counted, &text)?;
    }
    for row in rows.iter().filter(|row| !row.is_met()) {
        println!("missed: {}", row.describe());
    }
    Ok(rows.iter().all(table::Row::is_met))
}

fn c(source: &'static str) -> Program {
    Program::C { source, others: &[], flags: STATIC }
}

fn root(name: &'static str, subject: &str, mut programs: Vec<Program>) -> Root {
    programs.extend([c("tests/vm/meter.c"), c("tests/vm/depth.c")]);
    let files = vec![("/profiler", subject.to_owned())];
    Root { name, init: workspace::root().join(INIT), programs, files }
}

fn measure(root: &Root) -> Result<Figures> {
    let lines = vm::count(KERNEL, root, &format!("pushes={PUSHES}"), GUEST_LIMIT)?;
    for line in &lines {
        eprintln!("  {line}");
    }
    Figures::read(&lines)
}

/// The table with all that says where it came from.
fn report(runs: u32, table: &str) -> Result<String> {
    let date = process::capture(Command::new("date").args(["--utc", "+%Y-%m-%d"]))?;
    let kovar = process::capture(Command::new(workspace::kovar()).arg("--version"))?;
    Ok(format!(
        "{}; emulated by QEMU: one CPU, Linux {KERNEL}, {} ns an instruction. {}, OpenTelemetry eBPF profiler {}; median of \
         {runs} runs, {PUSHES} pushes a depth, by\n\n```sh\n{}\n```\n\n{table}",
        date.trim(),
        vm::NS_PER_INSTRUCTION,
        kovar.trim(),
        otel_profiler::VERSION,
        machine::command_line(),
    ))
}
