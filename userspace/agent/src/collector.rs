//! Everything that runs, as the listeners see it: metrics, status, health.

use crate::destinations::Destinations;
use crate::health::{self, ProfilerView, Progress};
use crate::profiles::{Profiles, Profiling};
use crate::tasks::Tasks;
use crate::{metrics, store_writer};
use model::Metric;
use profiler::{Profiler, Ticks};
use queue::Queue;
use sinks::{OutletHandle, OutletState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use store::Store;
use tokio::time::Instant;

/// The parts that run.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) node: String,
    pub(crate) queue: Queue,
    pub(crate) store: Store,
    pub(crate) store_outlet: OutletHandle,
    pub(crate) destinations: Destinations,
    pub(crate) profiles: Arc<Profiles>,
    pub(crate) tasks: Tasks,
    source: Mutex<Source>,
    push_interval: Duration,
    started: Instant,
    started_unix_ms: i64,
}

/// The profiler and when it last did something.
#[derive(Debug)]
enum Source {
    /// The configuration turns it off.
    Off,
    Running {
        profiler: Profiler,
        counted: Progress,
        delivered: Progress,
    },
    Stopped(Ticks),
}

impl Collector {
    pub(crate) fn new(
        node: String,
        (queue, store, store_outlet): (Queue, Store, OutletHandle),
        destinations: Destinations,
        profiles: Arc<Profiles>,
        tasks: Tasks,
        profiler: Option<Profiling>,
    ) -> Self {
        let push_interval = profiler.as_ref().map_or(Duration::ZERO, |(_, interval)| *interval);
        let source = profiler.map_or(Source::Off, |(profiler, _)| Source::Running {
            profiler,
            counted: Progress::new(),
            delivered: Progress::new(),
        });
        Self {
            node,
            queue,
            store,
            store_outlet,
            destinations,
            profiles,
            tasks,
            source: Mutex::new(source),
            push_interval,
            started: Instant::now(),
            started_unix_ms: health::now_unix_ms(),
        }
    }

    /// Everybody's metrics.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let mut all = metrics::process(self.started_unix_ms);
        if let Source::Running { profiler, .. } = &*self.source() {
            all.extend(profiler.metrics());
        }
        all.extend(self.profiles.metrics());
        all.extend(sinks::queue_metrics(&self.queue.stats(), "profiles"));
        all.extend(self.store_outlet.metrics());
        for view in self.destinations.views() {
            all.extend(view.handle.metrics());
        }
        all.extend(self.store.metrics());
        all.push(Metric::gauge(
            "kovar_agent_healthy",
            "1 while /-/healthy answers 200.",
            f64::from(u8::from(self.healthy().is_ok())),
        ));
        all
    }

    /// Whether the sources work.
    ///
    /// # Errors
    /// What is wrong, one sentence a line.
    pub(crate) fn ready(&self) -> Result<(), String> {
        match &*self.source() {
            Source::Off => Ok(()),
            Source::Running { profiler, .. } => {
                profiler.health().map_err(|problem| format!("profiler: {problem}"))
            }
            Source::Stopped(_) => Err("kovar is stopping".into()),
        }
    }

    /// Whether every component does its work.
    ///
    /// # Errors
    /// What is wrong, one sentence a line.
    pub(crate) fn healthy(&self) -> Result<(), String> {
        let mut problems = match &*self.source() {
            Source::Running { profiler, counted, delivered } => health::profiler_problems(&ProfilerView {
                says: profiler.health(),
                ticks_silent: counted.silent(),
                samples_silent: delivered.silent(),
                profiles_silent: self.profiles_silent(),
                push_interval: self.push_interval,
            }),
            Source::Off | Source::Stopped(_) => Vec::new(),
        };
        problems.extend(self.tasks.ended().into_iter().map(|name| format!("{name}: the task has ended")));
        let now_unix_ms = health::now_unix_ms();
        problems.extend(health::outlet_problem(&self.store_outlet.status(), false, now_unix_ms));
        for view in self.destinations.views() {
            problems.extend(health::outlet_problem(&view.handle.status(), view.has_ended(), now_unix_ms));
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
    }

    /// What the user interface shows beside profiles.
    pub(crate) fn status(&self) -> ui::Status {
        let ticks = match &*self.source() {
            Source::Off => Ticks::default(),
            Source::Running { profiler, .. } => profiler.ticks(),
            Source::Stopped(ticks) => ticks.clone(),
        };
        let lost =
            ticks.lost.iter().map(|(reason, ticks)| ui::Lost { reason: (*reason).into(), ticks: *ticks });
        let views = self.destinations.views();
        ui::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.node.clone(),
            started_unix_ms: self.started_unix_ms,
            healthy: self.healthy(),
            ticks: ui::Ticks {
                counted: ticks.counted,
                delivered: ticks.delivered,
                idle: ticks.idle,
                lost: lost.collect(),
            },
            destinations: std::iter::once(&self.store_outlet)
                .chain(views.iter().map(|view| &view.handle))
                .map(destination)
                .collect(),
        }
    }

    /// Notes which counts have grown; called every few seconds.
    pub(crate) fn look(&self) {
        if let Source::Running { profiler, counted, delivered } = &mut *self.source() {
            let progress = profiler.progress();
            counted.look(progress.ticks);
            delivered.look(progress.delivered);
        }
    }

    /// Stops the profiler, which pushes its last interval, and waits for it at most `grace`.
    pub(crate) async fn stop_profiler(self: &Arc<Self>, grace: Duration) {
        let collector = Arc::clone(self);
        let stop = tokio::task::spawn_blocking(move || {
            let running = std::mem::replace(&mut *collector.source(), Source::Stopped(Ticks::default()));
            let Source::Running { profiler, .. } = running else { return };
            let ticks = profiler.stop();
            let Ticks { counted, delivered, idle, .. } = ticks;
            tracing::info!(counted, delivered, idle, "profiler stopped");
            *collector.source() = Source::Stopped(ticks);
        });
        match tokio::time::timeout(grace, stop).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("the profiler failed: {error}"),
            Err(_) => tracing::warn!("the profiler did not stop in time; its last interval may be lost"),
        }
    }

    fn profiles_silent(&self) -> Duration {
        self.profiles.last_push().map_or_else(|| self.started.elapsed(), |pushed| pushed.elapsed())
    }

    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn destination(handle: &OutletHandle) -> ui::Destination {
    let status = handle.status();
    let state = match &status.state {
        OutletState::Working => "working",
        OutletState::Retrying { .. } => "retrying",
        OutletState::Stopped => "stopped",
    };
    debug_assert!(status.kind != "store" || status.name == store_writer::NAME);
    ui::Destination {
        name: status.name,
        kind: status.kind.to_owned(),
        url: status.url,
        state: state.to_owned(),
        last_error: status.last_error,
        records_pending: status.pending.records,
    }
}
