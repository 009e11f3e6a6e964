//! `lab`: the real servers that tests run against, built and started from files of our own.

use anyhow::Result;
use clap::Subcommand;

mod build_lock;
mod containerd;
mod go;
mod go_module;
mod http;
mod pyroscope;
mod run_dir;
mod stop;

pub(crate) use build_lock::BuildLock;

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
    let (Server::Pyroscope(mode) | Server::Containerd(mode)) = &args.server;
    if mode.check {
        let built = match args.server {
            Server::Pyroscope(_) => pyroscope::built(),
            Server::Containerd(_) => containerd::unpacked(),
        };
        match &built {
            Some(path) => println!("built: {}", path.display()),
            None => println!("not built"),
        }
        return Ok(built.is_some());
    }
    let stay = if mode.serve { Stay::UntilToldToStop } else { Stay::LeaveRunning };
    match args.server {
        Server::Pyroscope(_) => pyroscope::run(stay)?,
        Server::Containerd(_) => containerd::run(stay)?,
    }
    Ok(true)
}
