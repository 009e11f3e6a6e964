//! What is measured: kovar and its peers, each started as it is run for the whole machine.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};

use super::load::{Load, Programs};
use super::perf::{Perf, Recording};
use super::steady::{self, Measured, READY_LIMIT, Times};
use crate::lab::otel_profiler::{self, Built, OtelProfiler};
use crate::process::{self, Server};
use crate::workspace;

/// How often each of them samples each CPU.
pub(super) const RATE_HZ: u32 = 97;
/// A load runs so much longer than is planned, for what lies between the steps.
const LOAD_MARGIN_S: u64 = 60;

/// A profiler that can be started.
#[derive(Debug)]
pub(super) enum Subject {
    Kovar,
    OpenTelemetry(Built),
    Perf(Perf),
}

impl Subject {
    pub(super) fn open_telemetry() -> Result<Self> {
        Ok(Self::OpenTelemetry(otel_profiler::build()?))
    }

    pub(super) fn perf() -> Result<Self> {
        Ok(Self::Perf(Perf::find()?))
    }

    /// Name and version.
    pub(super) fn version(&self) -> Result<String> {
        match self {
            Self::Kovar => {
                Ok(process::capture(Command::new(workspace::kovar()).arg("--version"))?.trim().to_owned())
            }
            Self::OpenTelemetry(_) => Ok(format!("OpenTelemetry eBPF profiler {}", otel_profiler::VERSION)),
            Self::Perf(perf) => perf.version(),
        }
    }

    /// Starts the load, then the profiler, and measures it; both are gone afterwards.
    pub(super) fn measure(
        &self,
        dir: &Path,
        programs: &Programs,
        load: Load,
        times: Times,
    ) -> Result<Measured> {
        let seconds = (times.warm_up + times.measured + READY_LIMIT).as_secs() + LOAD_MARGIN_S;
        let mut running_load = programs.start(load, seconds)?;
        let mut running = self.start(dir)?;
        let result = running.measure(&mut running_load, times);
        let measured = result.map_err(|error| anyhow!("{error:#}\n{}", running.log()))?;
        measured.check(load)?;
        Ok(measured)
    }

    fn start(&self, dir: &Path) -> Result<Running> {
        Ok(match self {
            Self::Kovar => {
                let settings = format!("profiler: {{rate_hz: {RATE_HZ}}}\n");
                Running::Kovar(Kovar::start(dir, &settings, |_command| {})?)
            }
            Self::OpenTelemetry(built) => {
                Running::OpenTelemetry(OtelProfiler::start(built, RATE_HZ, |_command| {})?)
            }
            Self::Perf(perf) => Running::Perf(perf.start(dir, RATE_HZ)?),
        })
    }
}

enum Running {
    Kovar(Kovar),
    OpenTelemetry(OtelProfiler),
    Perf(Recording),
}

impl Running {
    fn measure(&mut self, load: &mut super::load::Running, times: Times) -> Result<Measured> {
        let measured = match self {
            Self::Kovar(kovar) => {
                steady::wait_first_run(&mut kovar.server, load)?;
                steady::measure(&mut kovar.server, load, times)?
            }
            Self::OpenTelemetry(profiler) => {
                steady::wait_first_run(profiler.server(), load)?;
                let measured = steady::measure(profiler.server(), load, times)?;
                let delivered = profiler.delivered_samples();
                if delivered == 0 {
                    bail!("it has delivered no sample to its collector");
                }
                eprintln!("  {delivered} samples delivered since its start");
                measured
            }
            Self::Perf(recording) => {
                let mut measured = steady::measure(recording.server()?, load, times)?;
                measured.samples = recording.stop(measured.window())?;
                measured
            }
        };
        if measured.samples == 0 {
            bail!("it has taken no sample");
        }
        Ok(measured)
    }

    /// The end of what it has logged.
    fn log(&self) -> String {
        match self {
            Self::Kovar(kovar) => format!("its log is {}", kovar.log.display()),
            Self::OpenTelemetry(profiler) => profiler.log_tail(),
            Self::Perf(recording) => recording.log(),
        }
    }
}

/// `kovar run` with a store and a page of its own.
pub(super) struct Kovar {
    pub(super) server: Server,
    store: PathBuf,
    pub(super) log: PathBuf,
}

impl Kovar {
    /// `settings` is YAML that is added to its configuration: without `storage` and `ui`. `prepare` may change how it is
    /// started.
    pub(super) fn start(dir: &Path, settings: &str, prepare: impl FnOnce(&mut Command)) -> Result<Self> {
        let (config, log, store) = (dir.join("kovar.yaml"), dir.join("kovar.log"), dir.join("store"));
        let yaml = format!("{settings}storage:\n  path: {}\nui:\n  listen: 127.0.0.1:0\n", store.display());
        fs::write(&config, yaml).with_context(|| config.display().to_string())?;
        let output = File::create(&log).with_context(|| log.display().to_string())?;
        let mut command = Command::new(workspace::kovar());
        command.arg("run").arg("--config").arg(&config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        prepare(&mut command);
        Ok(Self { server: Server::start(&mut command)?, store, log })
    }
}

impl Drop for Kovar {
    fn drop(&mut self) {
        self.server.stop();
        // What it wrote is of no use to the next run, which begins with an empty store.
        fs::remove_dir_all(&self.store).ok();
    }
}
