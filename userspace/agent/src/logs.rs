//! Structured logs on standard error, whose level can change while the collector runs.

use crate::config::Level;
use std::io::IsTerminal;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

/// Libraries that log each of their steps; below `trace` only their warnings are of use.
const CHATTY: [&str; 6] = ["hyper", "hyper_util", "reqwest", "rustls", "h2", "blazesym"];

/// Changes the level.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    filter: reload::Handle<Targets, Registry>,
    /// Set on the command line or in the environment, which come before the configuration file.
    fixed: Option<Level>,
}

impl Logs {
    /// Starts logging at `fixed`, or at `info` until a configuration says otherwise. Call it once.
    pub(crate) fn start(fixed: Option<Level>) -> Self {
        let (filter, handle) = reload::Layer::new(targets(fixed.unwrap_or(Level::Info)));
        let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
        // A second subscriber in one process is a mistake of a test; the first one stays.
        let _already_set = tracing_subscriber::registry().with(filter).with(lines).try_init();
        Self { filter: handle, fixed }
    }

    /// Takes the level of a configuration.
    pub(crate) fn configure(&self, level: Level) {
        let level = self.fixed.unwrap_or(level);
        if self.filter.reload(targets(level)).is_err() {
            tracing::warn!(level = level.name(), "the log level cannot be changed");
        }
    }
}

fn targets(level: Level) -> Targets {
    let filter = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let chatty = if level == Level::Trace { filter } else { filter.min(LevelFilter::WARN) };
    Targets::new().with_default(filter).with_targets(CHATTY.map(|target| (target, chatty)))
}
