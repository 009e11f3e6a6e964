//! What this host gives the profiler and what it lacks, probed once.

/// The result of probing.
#[derive(Debug, Clone, Default)]
pub struct Host {
    findings: Vec<Finding>,
}

/// One thing that was probed.
#[derive(Debug, Clone)]
pub struct Finding {
    pub name: &'static str,
    pub state: State,
    pub detail: String,
    pub remedy: Option<String>,
}

/// How a probed thing does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Works,
    /// Profiling works with less.
    Degraded,
    /// Profiling cannot work.
    Missing,
}

impl Host {
    /// Probes the host.
    pub fn probe() -> Self {
        Self::default()
    }

    /// What was found, in the order it was probed.
    pub fn findings(&self) -> Vec<Finding> {
        self.findings.clone()
    }
}
