//! The user half of the sampler: load the kernel programs, know processes and their mappings, drain, build pprof.

mod config;
pub mod host;
mod profiler;

pub use config::{Config, Only};
pub use profiler::{Output, Profiler, Ticks};

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
