//! The project's task runner: `cargo xtask VERB`, one module per verb.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool speaks to its terminal")]

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod archive;
mod bench;
mod build_ebpf;
mod elf;
mod fuzz;
mod lab;
mod process;
mod record;
mod run;
mod setup;
mod test;
mod tidy;
mod vm;
mod workspace;

/// Builds, tests and measures kovar.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Installs what building and testing need, or says how to get it. Running it again changes nothing.
    Setup(setup::Args),
    /// Builds the kernel programs and says by which toolchain, how large, and which programs.
    BuildEbpf(build_ebpf::Args),
    /// Sets up, builds the release binary and starts `kovar run`.
    Run(run::Args),
    /// Runs the tests of the named levels, or of all.
    Test(test::Args),
    /// Checks what the compiler cannot: package borders, file and function lengths, the README's table.
    Tidy,
    /// Builds and starts the real servers that tests run against.
    Lab(lab::Args),
    /// Boots Debian's kernels in QEMU and runs a check in each.
    Vm(vm::Args),
    /// Measures and prints a table for docs/performance.md.
    Bench(bench::Args),
    /// Records the stacks that tests/replay unwinds, from programs of tests/programs.
    Record(record::Args),
    /// Runs every parser of outside bytes, or the named ones, on mutated inputs.
    Fuzz(fuzz::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Setup(args) => setup::run(&args),
        Verb::BuildEbpf(args) => build_ebpf::run(&args),
        Verb::Run(args) => run::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Tidy => tidy::run(),
        Verb::Lab(args) => lab::run(&args),
        Verb::Vm(args) => vm::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Record(args) => record::run(&args),
        Verb::Fuzz(args) => fuzz::run(&args),
    };
    finish(result)
}

/// A verb answers whether it succeeded; it has printed its findings itself.
fn finish(result: Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
