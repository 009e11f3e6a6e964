//! The OpenTelemetry eBPF profiler and a collector it delivers to: what kovar is measured beside.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::go_module::Recipe;
use super::run_dir::RunDir;
use super::tracefs;
use crate::process::Server;

pub(crate) const VERSION: &str = "v0.0.202633";
const SINK_LOG: &str = "sink.log";
const SINK_LIMIT: Duration = Duration::from_secs(20);
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

const PROFILER: Recipe = Recipe {
    name: "otel-profiler",
    module: "go.opentelemetry.io/ebpf-profiler",
    version: VERSION,
    // Its BPF programs lie compiled in the module.
    package: "",
    ldflags: "",
    replace: &[],
    files: &[],
    // It gives up when it may not raise the limit of locked memory.
    patches: &[("rlimit/rlimit.go", include_str!("otel_profiler/rlimit.go"))],
};

const SINK: Recipe = Recipe {
    name: "otlp-profiles-sink",
    module: "go.opentelemetry.io/proto/otlp/collector/profiles/v1development",
    version: "v0.4.0",
    package: "./sink",
    ldflags: "",
    replace: &[
        ("go.opentelemetry.io/proto/otlp", "go.opentelemetry.io/proto/otlp v1.11.0"),
        (
            "go.opentelemetry.io/proto/otlp/profiles/v1development",
            "go.opentelemetry.io/proto/otlp/profiles/v1development v0.4.0",
        ),
    ],
    files: &[("sink/main.go", include_str!("otlp_profiles_sink/main.go"))],
    patches: &[],
};

/// The two binaries.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) profiler: PathBuf,
    pub(crate) sink: PathBuf,
}

/// The profiler, when it and its collector are built.
pub(super) fn built() -> Option<PathBuf> {
    SINK.built().and(PROFILER.built())
}

pub(crate) fn build() -> Result<Built> {
    Ok(Built { profiler: PROFILER.build()?, sink: SINK.build()? })
}

/// The running profiler. Dropped in this order: what delivers before what it delivers to.
#[derive(Debug)]
pub(crate) struct OtelProfiler {
    profiler: Server,
    _sink: Server,
    dir: RunDir,
}

impl OtelProfiler {
    /// Starts both; the profiler then needs seconds until its programs are loaded. `prepare` may change how the profiler is
    /// started.
    ///
    /// # Errors
    /// When one cannot be started, or the collector does not listen.
    pub(crate) fn start(built: &Built, rate_hz: u32, prepare: impl FnOnce(&mut Command)) -> Result<Self> {
        let dir = RunDir::create(PROFILER.name)?;
        let sink_log = dir.path().join(SINK_LOG);
        let log = File::create(&sink_log).with_context(|| sink_log.display().to_string())?;
        let mut sink = Command::new(&built.sink);
        sink.args(["-listen", "127.0.0.1:0"]).stdin(Stdio::null());
        sink.stdout(log.try_clone().context("the log")?).stderr(log);
        let mut sink = Server::start(&mut sink)?;
        let address = wait_listening(&mut sink, || fs::read_to_string(&sink_log).unwrap_or_default())?;

        let log = dir.log()?;
        let mut profiler = Command::new(&built.profiler);
        profiler.args(["-disable-tls", "-reporter-interval", "5s", "-collection-agent", &address]);
        profiler.arg("-samples-per-second").arg(rate_hz.to_string()).current_dir(dir.path());
        profiler.stdin(Stdio::null()).stdout(log.try_clone().context("the log")?).stderr(log);
        tracefs::give(&mut profiler);
        prepare(&mut profiler);
        let profiler = Server::start(&mut profiler)?;
        dir.set_server(profiler.pid())?;
        Ok(Self { profiler, _sink: sink, dir })
    }

    pub(crate) fn server(&mut self) -> &mut Server {
        &mut self.profiler
    }

    /// How many samples have come to the collector.
    pub(crate) fn delivered_samples(&self) -> u64 {
        samples(&fs::read_to_string(self.dir.path().join(SINK_LOG)).unwrap_or_default())
    }

    pub(crate) fn log_tail(&self) -> String {
        self.dir.log_tail()
    }
}

fn wait_listening(sink: &mut Server, log: impl Fn() -> String) -> Result<String> {
    let start = Instant::now();
    loop {
        let log = log();
        if let Some(address) = address(&log) {
            return Ok(address.to_owned());
        }
        if let Some(status) = sink.exited() {
            bail!("the collector ended before it listened ({status}): {}", log.trim());
        }
        if start.elapsed() > SINK_LIMIT {
            bail!("the collector does not listen after {} s: {}", SINK_LIMIT.as_secs(), log.trim());
        }
        thread::sleep(RETRY_INTERVAL);
    }
}

/// The address in the line that says it; a line without its end is still being written.
fn address(log: &str) -> Option<&str> {
    let (line, _) = log.split_once('\n')?;
    line.strip_prefix("listening=")
}

fn samples(log: &str) -> u64 {
    log.lines().filter_map(|line| line.strip_prefix("samples=")?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_when_its_line_is_whole() {
        assert_eq!(address("listening=127.0.0.1:40"), None);
        assert_eq!(address("listening=127.0.0.1:4071\nsamples=3\n"), Some("127.0.0.1:4071"));
        assert_eq!(address("listen tcp: address in use\n"), None);
    }

    #[test]
    fn samples_of_all_requests_are_added_up() {
        assert_eq!(samples("listening=127.0.0.1:4071\nsamples=300\nframes=9\nsamples=12\nsamples=\n"), 312);
    }
}
