//! `vm`: boots Debian's kernels in QEMU with the release binary and counts what the guest's checks say.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

mod cpio;
mod guest;
mod initramfs;
mod kernels;
mod qemu;

use guest::Report;
pub(crate) use initramfs::{Program, Root};
use kernels::{Kernel, SERIES, Series};
use qemu::Machine;
pub(crate) use qemu::NS_PER_INSTRUCTION;

use crate::setup::{self, Purpose};
use crate::test::count::Tally;
use crate::{run as build, workspace};

/// The check that runs as the guest's first process.
const INIT: &str = "tests/vm/init.sh";
/// The programs of the tests. Frame pointers are what the sampler follows where it has no unwind rows; an optimizing gcc
/// leaves them out of leaf functions.
const PROGRAMS: [Program; 7] = [
    Program::Kovar,
    c("tests/programs/split.c", &["-O0", "-g", "-fno-omit-frame-pointer", "-pthread"]),
    c("tests/programs/without.c", &["-O2"]),
    c("tests/programs/plain.c", UNWOUND),
    c("tests/programs/deep.c", UNWOUND),
    c("tests/programs/alloca.c", &["-O2", "-fomit-frame-pointer", "-static"]),
    Program::C {
        source: "tests/programs/tailcall.c",
        others: &["tests/programs/tailcall_far.c"],
        flags: &["-O3", "-flto", "-fomit-frame-pointer"],
    },
];
const UNWOUND: &[&str] = &["-O2", "-fomit-frame-pointer"];
/// From power on to power off; emulated, on a busy machine.
const GUEST_LIMIT_S: u64 = 600;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Boot only this kernel, for example 6.1; may be given more than once.
    #[arg(long = "kernel")]
    kernels: Vec<String>,
    /// The script that runs as the guest's first process instead of tests/vm/init.sh.
    #[arg(long)]
    init: Option<PathBuf>,
    /// Seconds from power on to power off.
    #[arg(long, default_value_t = GUEST_LIMIT_S)]
    limit_s: u64,
    /// Only download and unpack the kernels.
    #[arg(long)]
    fetch: bool,
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    let chosen = choose(&args.kernels)?;
    if args.fetch {
        for kernel in fetch(&chosen)? {
            println!("{} {} {}", kernel.series, kernel.package, kernel.image.display());
        }
        return Ok(true);
    }
    if !setup::prepare(Purpose::Vm)? {
        return Ok(false);
    }
    build::build()?;
    let init = args.init.clone().unwrap_or_else(|| workspace::root().join(INIT));
    let tally = boot_all(&chosen, &init, Duration::from_secs(args.limit_s))?;
    println!("{tally}");
    Ok(tally.failed == 0)
}

/// The level `vm` of the tests: every kernel, the release binary being built.
pub(crate) fn test() -> Result<Tally> {
    boot_all(&choose(&[])?, &workspace::root().join(INIT), Duration::from_secs(GUEST_LIMIT_S))
}

/// One file of C.
const fn c(source: &'static str, flags: &'static [&'static str]) -> Program {
    Program::C { source, others: &[], flags }
}

fn choose(names: &[String]) -> Result<Vec<&'static Series>> {
    if let Some(unknown) = names.iter().find(|name| !SERIES.iter().any(|series| series.name == name.as_str()))
    {
        let known = SERIES.map(|series| series.name).join(", ");
        bail!("no kernel {unknown}; these are known: {known}");
    }
    let is_chosen = |series: &&Series| names.is_empty() || names.iter().any(|name| name == series.name);
    Ok(SERIES.iter().filter(is_chosen).collect())
}

fn fetch(chosen: &[&'static Series]) -> Result<Vec<Kernel>> {
    chosen
        .iter()
        .map(|series| kernels::fetch(series).with_context(|| format!("kernel {}", series.name)))
        .collect()
}

fn boot_all(chosen: &[&'static Series], init: &std::path::Path, limit: Duration) -> Result<Tally> {
    let root = Root { name: "tests", init: init.to_owned(), programs: PROGRAMS.into(), files: Vec::new() };
    let initramfs = root.build()?;
    let mut total = Vec::new();
    for series in chosen {
        let report = kernels::fetch(series).and_then(|kernel| {
            println!("booting {} ({}) ...", series.name, kernel.package);
            qemu::boot(Machine::Ordinary, &kernel, &initramfs, "", limit)
        });
        let report = report.unwrap_or_else(|error| Report::broken(&format!("{error:#}")));
        report.print(series.name);
        total.push(report.tally());
    }
    Ok(total.into_iter().sum())
}

/// Boots a machine whose time is the count of its instructions, and gives what the guest measured. `words` stand on its
/// kernel's command line.
///
/// # Errors
/// When the guest does not reach its end, or says that something failed.
pub(crate) fn count(kernel: &str, root: &Root, words: &str, limit: Duration) -> Result<Vec<String>> {
    let chosen = choose(&[kernel.to_owned()])?;
    let [kernel] = fetch(&chosen)?.try_into().ok().context("one kernel")?;
    qemu::boot(Machine::Counted, &kernel, &root.build()?, words, limit)?.measured()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_kernel_is_refused_with_the_known_ones() {
        assert_eq!(choose(&[]).unwrap().len(), SERIES.len());
        assert_eq!(choose(&["6.1".to_owned()]).unwrap().len(), 1);
        let error = choose(&["4.19".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("4.19") && error.contains("5.10"), "{error}");
    }
}
