//! `lab`: the real servers that tests run against, built and started from files of our own.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Subcommand;

mod build_lock;
mod containerd;
mod go;
mod go_module;
mod http;
pub(crate) mod otel_profiler;
mod pyroscope;
mod run_dir;
mod stop;
mod tracefs;

pub(crate) use build_lock::BuildLock;
pub(crate) use stop::{is_told, watch_signals};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    server: Server,
}

#[derive(Debug, Subcommand)]
enum Server {
    /// Pyroscope, built from the Go module proxy; prints `url=` and `pid=`.
    Pyroscope(Mode),
    /// containerd and runc with a private root, state and socket; prints `address=`, `ctr=`, `pid=`.
    Containerd(Mode),
    /// The OpenTelemetry eBPF profiler and a collector that keeps nothing, for `bench profiler`, which starts them;
    /// prints `profiler=` and `sink=`.
    OtelProfiler {
        /// Only says whether they are built.
        #[arg(long)]
        check: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Mode {
    /// Only says whether it is built.
    #[arg(long, conflicts_with = "serve")]
    check: bool,
    /// Stops the server when standard input closes or this process is told to end; without it the server is left
    /// running.
    #[arg(long)]
    serve: bool,
}

/// What this process does with a server that is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stay {
    UntilToldToStop,
    LeaveRunning,
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    match &args.server {
        Server::Pyroscope(mode) => start(mode, pyroscope::built, pyroscope::run),
        Server::Containerd(mode) => start(mode, containerd::unpacked, containerd::run),
        Server::OtelProfiler { check: true } => Ok(report(otel_profiler::built().as_deref())),
        Server::OtelProfiler { check: false } => {
            let built = otel_profiler::build()?;
            println!("profiler={}", built.profiler.display());
            println!("sink={}", built.sink.display());
            Ok(true)
        }
    }
}

fn start(mode: &Mode, built: fn() -> Option<PathBuf>, run: fn(Stay) -> Result<()>) -> Result<bool> {
    if mode.check {
        return Ok(report(built().as_deref()));
    }
    run(if mode.serve { Stay::UntilToldToStop } else { Stay::LeaveRunning })?;
    Ok(true)
}

fn report(built: Option<&Path>) -> bool {
    match built {
        Some(path) => println!("built: {}", path.display()),
        None => println!("not built"),
    }
    built.is_some()
}
