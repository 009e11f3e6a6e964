//! The kovar binary: sinks, sources, listeners, wired together and stopped in reverse.

mod cli;
mod collector;
mod commands;
mod config;
mod destinations;
mod gzip;
mod health;
mod logs;
mod metrics;
mod process;
mod profiles;
mod reload;
mod routes;
mod storage;
mod store_writer;
mod tasks;

use crate::cli::{Cli, Command};
use crate::commands::{check, doctor, profile};
use crate::{collector::Collector, config::Config, destinations::Destinations, logs::Logs, process::Order};
use crate::{profiles::Profiles, reload::Reload, store_writer::StoreWriter, tasks::Tasks};
use clap::Parser;
use std::{io::Write, path::Path, process::ExitCode, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Everything has ended this long after the order to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Of that, what answers under way get.
const GRACE_LISTENERS: Duration = Duration::from_secs(1);

/// Of that, what the profiler gets for its last interval; the rest is for sending it.
const GRACE_SOURCES: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    process::limit_heap_arenas();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            let printed = usage.print();
            return ExitCode::from(if printed.is_ok() && !usage.use_stderr() { 0 } else { 2 });
        }
    };
    let logs = Logs::start(cli.log_level);
    let done = match &cli.command {
        Command::Run(file) => run(file.config.as_deref(), logs),
        Command::Profile(options) => profile::run(options),
        Command::Check { config } => check::check(config),
        Command::Doctor(file) => doctor::run(file.config.as_deref()),
        Command::Config { reference: true, .. } => check::print_reference(),
        Command::Config { file, .. } => check::print(file.config.as_deref()),
    };
    let Err(error) = done else { return ExitCode::SUCCESS };
    // Nobody is left to tell when this fails too.
    let _unread = writeln!(std::io::stderr().lock(), "{error:#}");
    ExitCode::FAILURE
}

fn run(file: Option<&Path>, logs: Logs) -> anyhow::Result<()> {
    let config = Config::load(file)?;
    logs.configure(config.log_level);
    let runtime = process::runtime()?;
    let done = runtime.block_on(collect(config, file, logs));
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

async fn collect(config: Config, file: Option<&Path>, logs: Logs) -> anyhow::Result<()> {
    let mut signals = process::Signals::listen()?;
    let tasks = Tasks::default();

    // Sinks: the queue, the embedded store, the backends.
    let queue = queue::Queue::new(queue::Config { bytes_max: config.queue_bytes_max });
    let path = storage::directory(&config.storage)?;
    let store = store::Store::open(config.storage.store(path.clone()))?;
    let backoff = sinks::BackoffConfig::default();
    let outlet = sinks::Outlet::new(StoreWriter::new(store.clone(), path.clone()), &queue, backoff)?;
    let store_outlet = outlet.handle();
    tasks.start("store", |shutdown| outlet.run(shutdown));
    let destinations = Destinations::new(queue.clone());
    destinations.apply(&config.pyroscope).await?;

    // Sources: the profiler.
    let labels = config.external_labels.clone();
    let profiles = Arc::new(Profiles::new(queue.clone(), store.clone(), config.node.clone(), labels));
    let profiler = config.profiler.clone().map(|config| profiles.profile(config)).transpose()?;

    // Listeners: the user interface and the collector's own endpoints.
    let server = transport::Server::bind("ui.listen", config.listen).await?;
    let listen = server.address()?;
    let sinks = (queue, store, store_outlet);
    let collector = Collector::new(config.node.clone(), sinks, destinations, profiles, tasks, profiler);
    let collector = Arc::new(collector);
    let reload =
        Arc::new(Reload::new(file.map(Path::to_owned), config.clone(), logs, Arc::clone(&collector)));
    let watched = Arc::clone(&collector);
    collector.tasks.start("health", |shutdown| health::watch(move || watched.look(), shutdown));
    let router = routes::all(Arc::clone(&collector), Arc::clone(&reload));
    collector.tasks.start("server", |shutdown| server.serve(router, shutdown));

    let version = env!("CARGO_PKG_VERSION");
    let (node, samples, destinations) = (config.node.as_str(), config.samples(), config.pyroscope.len());
    tracing::info!(version, node, %listen, samples, destinations, store = %path.display(), "kovar runs");
    while signals.next().await == Order::Reload {
        // What came of it is in the log.
        let _logged = reload.run().await;
    }

    let deadline = Instant::now() + GRACE;
    collector.tasks.stop("server", Instant::now() + GRACE_LISTENERS).await;
    collector.tasks.stop("health", deadline).await;
    collector.stop_profiler(GRACE_SOURCES).await;
    tokio::join!(collector.destinations.stop(deadline), collector.tasks.stop("store", deadline));
    tracing::info!("kovar stopped");
    Ok(())
}
