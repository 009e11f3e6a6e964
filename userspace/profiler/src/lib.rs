//! The user half of the sampler: load, processes and their mappings, drain, pprof.

mod btf;
mod clock;
mod config;
pub mod event;
pub mod executable;
mod frame;
pub mod host;
mod interval;
pub mod mapping;
mod mates;
mod metrics;
mod online;
mod pages;
mod perf_event;
mod pprof;
mod process;
mod profiler;
mod raw;
mod recorder;
pub mod records;
mod sampler;
mod stack;
mod unwinding;

pub use config::{Config, Only};
pub use profiler::{Output, Profiler, Progress, Ticks};

/// What can go wrong, by what the operator can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process lacks a privilege; the text names it and how to give it.
    #[error("{0}")]
    Privilege(String),
    /// The kernel lacks something; the text names it and which kernels have it.
    #[error("{0}")]
    Kernel(String),
    /// A system call failed in a way that is neither of the above.
    #[error("{what}: {source}")]
    System {
        /// What was being done, with the thing's name.
        what: String,
        source: std::io::Error,
    },
}
