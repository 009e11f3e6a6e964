//! The running outlets, one for each configured destination; a reload changes them.

use crate::config::Destination;
use anyhow::Context;
use queue::Queue;
use sinks::{BackoffConfig, Outlet, OutletHandle, Pyroscope, PyroscopeConfig};
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;
use transport::TlsConfig;

/// How long a destination that is taken away may still send.
const REMOVED_GRACE: Duration = Duration::from_secs(2);

/// All outlets to backends.
#[derive(Debug)]
pub(crate) struct Destinations {
    queue: Queue,
    running: Mutex<Vec<Running>>,
    /// The same outlets, for readers that must not wait.
    views: watch::Sender<Vec<View>>,
}

/// One outlet, to look at.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) handle: OutletHandle,
    task: AbortHandle,
}

impl View {
    /// Whether the outlet's task is over, which while the collector runs it never should be.
    pub(crate) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }
}

/// One outlet's task.
#[derive(Debug)]
struct Running {
    destination: Destination,
    handle: OutletHandle,
    stop: watch::Sender<Option<Instant>>,
    task: JoinHandle<()>,
}

/// What a change did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) added: usize,
    pub(crate) changed: usize,
    pub(crate) removed: usize,
}

impl Destinations {
    pub(crate) fn new(queue: Queue) -> Self {
        Self { queue, running: Mutex::new(Vec::new()), views: watch::Sender::new(Vec::new()) }
    }

    /// The outlets that run now.
    pub(crate) fn views(&self) -> Vec<View> {
        self.views.borrow().clone()
    }

    /// Makes the running outlets those of `wanted`; one that has not changed goes on undisturbed, one that has keeps
    /// its place in the queue.
    ///
    /// # Errors
    /// A destination whose settings cannot work; then nothing was changed.
    pub(crate) async fn apply(&self, wanted: &[Destination]) -> anyhow::Result<Changes> {
        let mut running = self.running.lock().await;
        let mut sinks = Vec::new();
        for destination in wanted {
            let stays = |it: &Running| it.destination == *destination && !reads_files(&it.destination);
            if !running.iter().any(stays) {
                sinks.push((destination.clone(), sink(destination)?));
            }
        }
        let (mut changes, mut removed) = (Changes::default(), Vec::new());
        let mut kept = Vec::new();
        for outlet in running.drain(..) {
            let name = &outlet.destination.name;
            if wanted.iter().all(|destination| destination.name != *name) {
                removed.push(outlet);
            } else if sinks.iter().any(|(destination, _)| destination.name == *name) {
                changes.changed += 1;
                outlet.stop(Instant::now()).await;
            } else {
                kept.push(outlet);
            }
        }
        *running = kept;
        changes.added = sinks.len() - changes.changed;
        changes.removed = removed.len();
        for (destination, sink) in sinks {
            running.push(Running::start(destination, sink, &self.queue)?);
        }
        self.views.send_replace(running.iter().map(Running::view).collect());
        for outlet in removed {
            let name = outlet.destination.name.clone();
            outlet.stop(Instant::now() + REMOVED_GRACE).await;
            self.queue.remove(&name)?;
        }
        Ok(changes)
    }

    /// Lets every outlet send until `deadline`, all at the same time.
    pub(crate) async fn stop(&self, deadline: Instant) {
        let running = std::mem::take(&mut *self.running.lock().await);
        for outlet in &running {
            outlet.stop.send_replace(Some(deadline));
        }
        for outlet in running {
            outlet.stop(deadline).await;
        }
    }
}

impl Running {
    fn start(destination: Destination, sink: Pyroscope, queue: &Queue) -> anyhow::Result<Self> {
        let outlet = Outlet::new(sink, queue, BackoffConfig::default())
            .with_context(|| format!("destination {}", destination.name))?;
        let handle = outlet.handle();
        let (stop, shutdown) = watch::channel(None);
        let task = tokio::spawn(outlet.run(shutdown));
        Ok(Self { destination, handle, stop, task })
    }

    fn view(&self) -> View {
        View { handle: self.handle.clone(), task: self.task.abort_handle() }
    }

    /// Returns when the outlet has ended, which it does at the deadline.
    async fn stop(mut self, deadline: Instant) {
        self.stop.send_replace(Some(deadline));
        let late = deadline + Duration::from_secs(1);
        match tokio::time::timeout_at(late, &mut self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(destination = self.destination.name, "the outlet failed: {error}");
            }
            Err(_) => {
                self.task.abort();
                tracing::warn!(destination = self.destination.name, "the outlet did not end in time");
            }
        }
    }
}

fn sink(destination: &Destination) -> anyhow::Result<Pyroscope> {
    let config = PyroscopeConfig {
        name: destination.name.clone(),
        url: destination.url.as_str().to_owned(),
        client: destination.client.clone(),
    };
    Pyroscope::new(config).with_context(|| format!("destination {}", destination.name))
}

/// Certificates are read when the client is made, so only a new client sees a renewed one.
fn reads_files(destination: &Destination) -> bool {
    let TlsConfig { ca_file, cert_file, key_file, .. } = &destination.client.tls;
    ca_file.is_some() || cert_file.is_some() || key_file.is_some()
}

#[cfg(test)]
mod tests {
    use super::{Changes, Destinations};
    use crate::config::Config;
    use queue::Queue;
    use tokio::time::Instant;

    fn destinations(urls: &[(&str, u16)]) -> Vec<crate::config::Destination> {
        let entry = |(name, port): &(&str, u16)| format!("{{name: {name}, url: 'http://127.0.0.1:{port}'}}");
        let entries: Vec<String> = urls.iter().map(entry).collect();
        let text = format!("destinations: {{pyroscope: [{}]}}", entries.join(", "));
        Config::parse("test", &text, &|_| None).expect("valid").pyroscope
    }

    fn names(destinations: &Destinations) -> Vec<String> {
        destinations.views().iter().map(|view| view.handle.status().name).collect()
    }

    #[tokio::test]
    async fn a_reload_starts_changes_and_stops_only_what_differs() {
        let queue = Queue::new(queue::Config { bytes_max: 1 << 20 });
        let running = Destinations::new(queue.clone());
        let changes = running.apply(&destinations(&[("a", 1), ("b", 2)])).await.expect("applied");
        assert_eq!(changes, Changes { added: 2, changed: 0, removed: 0 });
        let changes = running.apply(&destinations(&[("b", 3), ("c", 4)])).await.expect("applied");
        assert_eq!(changes, Changes { added: 1, changed: 1, removed: 1 });
        let mut now = names(&running);
        now.sort();
        assert_eq!(now, ["b", "c"]);
        assert!(queue.pending("a").is_none() && queue.pending("b").is_some());
        let changes = running.apply(&destinations(&[("b", 3), ("c", 4)])).await.expect("applied");
        assert_eq!(changes, Changes::default());
        running.stop(Instant::now()).await;
    }
}
