//! A new configuration while the collector runs: what can change does, the rest is named; or all stays as it was.

use crate::collector::Collector;
use crate::config::Config;
use crate::logs::Logs;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Reads the file again and applies it.
#[derive(Debug)]
pub(crate) struct Reload {
    file: Option<PathBuf>,
    logs: Logs,
    collector: Arc<Collector>,
    /// What the collector was started with; held while a reload is under way, so that there is one at a time.
    started_with: Mutex<Config>,
}

impl Reload {
    pub(crate) fn new(file: Option<PathBuf>, config: Config, logs: Logs, collector: Arc<Collector>) -> Self {
        Self { file, logs, collector, started_with: Mutex::new(config) }
    }

    /// Applies the file as it is now; says what was done, or why nothing was.
    ///
    /// # Errors
    /// Every problem of the file; then nothing was changed.
    pub(crate) async fn run(&self) -> Result<String, String> {
        let started_with = self.started_with.lock().await;
        let done = self.apply(&started_with).await;
        match &done {
            Ok(text) => tracing::info!("configuration reloaded: {}", text.trim_end().replace('\n', "; ")),
            Err(text) => tracing::error!("configuration not reloaded, the old one stays: {text}"),
        }
        done
    }

    async fn apply(&self, started_with: &Config) -> Result<String, String> {
        let file = self.file.clone();
        let loaded = tokio::task::spawn_blocking(move || Config::load(file.as_deref())).await;
        let new = loaded.map_err(|error| error.to_string())?.map_err(|problems| problems.to_string())?;
        let changes = self.collector.destinations.apply(&new.pyroscope).await;
        let changes = changes.map_err(|error| format!("{error:#}"))?;
        self.collector.profiles.set_external_labels(new.external_labels.clone());
        self.logs.configure(new.log_level);
        let mut text = format!(
            "destinations: {} added, {} changed, {} removed\n",
            changes.added, changes.changed, changes.removed
        );
        let waiting = started_with.restart_needed(&new);
        if !waiting.is_empty() {
            text.push_str(&format!("changed but in effect only after a restart: {}\n", waiting.join(", ")));
        }
        Ok(text)
    }
}
