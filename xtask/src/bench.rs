//! `bench`: measurements that go into docs/performance.md, with the machine they came from.

use anyhow::Result;
use clap::Subcommand;

mod cost;
mod counted;
mod document;
mod load;
mod machine;
mod memory;
mod perf;
mod profiler;
mod sink;
mod steady;
mod subject;
mod table;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Debug, Subcommand)]
enum Subject {
    /// What `kovar run` costs beside its peers: in its steady state while every CPU is busy; or in counted instructions
    /// (--vm); or in memory (--memory).
    Profiler(profiler::Args),
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    match &args.subject {
        Subject::Profiler(args) => profiler::run(args),
    }
}
