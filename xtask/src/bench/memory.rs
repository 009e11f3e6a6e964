//! What the kernel charges each profiler for: kovar and the OpenTelemetry profiler one after the other, each in a memory
//! cgroup of its own, while two large programs and many small ones run.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::document::{self, Part};
use super::machine;
use super::sink::Sink;
use super::subject::{Kovar, RATE_HZ};
use crate::lab::otel_profiler::{self, Built, OtelProfiler};
use crate::process::Server;
use crate::{lab, process, run as build, setup, workspace};

mod cgroup;
mod load;
mod programs;
mod table;

use cgroup::{Charge, Group};
use load::Load;

/// From this version on BPF maps are charged whole: before, a ring buffer's pages are not.
const KERNEL_MIN: (u32, u32) = (6, 12);
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
const REPORT_INTERVAL: Duration = Duration::from_secs(30);

/// What was charged to one profiler.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Measured {
    /// The sample with the most of anonymous memory and the kernel's together.
    peak: Charge,
    /// The last sample.
    last: Charge,
}

/// # Errors
/// When something cannot be started, or ends before its time.
pub(super) fn run(time: Duration, is_written: bool) -> Result<bool> {
    if !setup::is_root() {
        bail!("measuring BPF programs needs root; start this with sudo -E");
    }
    check_kernel(&fs::read_to_string("/proc/sys/kernel/osrelease").context("the kernel's release")?)?;
    if is_written {
        document::check(Part::Memory)?;
    }
    build::build()?;
    let peer = otel_profiler::build().context("the OpenTelemetry profiler")?;
    lab::watch_signals();
    let dir = workspace::target().join("bench");
    let load = Load::prepare(&dir.join("load"))?;

    let kovar = measure("kovar", &load, time, |group| start_kovar(&dir, group))?;
    let peer = measure("OpenTelemetry", &load, time, |group| start_peer(&peer, group))?;
    let text = report(time, &load, &table::markdown(&kovar, &peer))?;
    println!("{text}");
    if is_written {
        document::write(Part::Memory, &text)?;
    }
    Ok(table::is_met(&kovar, &peer))
}

/// A profiler in its cgroup, with what it delivers to.
trait Profiler {
    fn server(&mut self) -> &mut Server;
    /// Whether something has come to its destination.
    fn has_delivered(&self) -> bool;
    fn log(&self) -> String;
}

struct KovarWithSink {
    kovar: Kovar,
    sink: Sink,
}

impl Profiler for KovarWithSink {
    fn server(&mut self) -> &mut Server {
        &mut self.kovar.server
    }

    fn has_delivered(&self) -> bool {
        self.sink.requests() > 0
    }

    fn log(&self) -> String {
        format!("its log is {}", self.kovar.log.display())
    }
}

impl Profiler for OtelProfiler {
    fn server(&mut self) -> &mut Server {
        Self::server(self)
    }

    fn has_delivered(&self) -> bool {
        self.delivered_samples() > 0
    }

    fn log(&self) -> String {
        self.log_tail()
    }
}

fn start_kovar(dir: &Path, group: &Group) -> Result<Box<dyn Profiler>> {
    let sink = Sink::start()?;
    let settings = format!("{{pyroscope: [{{url: \"http://{}\"}}]}}", sink.address());
    let kovar = Kovar::start(
        dir,
        &format!("profiler: {{rate_hz: {RATE_HZ}, push_interval: 5s}}\ndestinations: {settings}\n"),
        |command| group.enter(command),
    )?;
    Ok(Box::new(KovarWithSink { kovar, sink }))
}

fn start_peer(built: &Built, group: &Group) -> Result<Box<dyn Profiler>> {
    Ok(Box::new(OtelProfiler::start(built, RATE_HZ, |command| group.enter(command))?))
}

/// Starts the load, then the profiler, and reads its cgroup every second; all of it is gone afterwards.
fn measure(
    name: &str,
    load: &Load,
    time: Duration,
    start: impl FnOnce(&Group) -> Result<Box<dyn Profiler>>,
) -> Result<Measured> {
    eprintln!("{name} ...");
    let group = Group::create(&name.to_lowercase())?;
    let mut running = load.start()?;
    let mut profiler = start(&group)?;
    let result = sample(&group, time, || {
        if let Some(status) = profiler.server().exited() {
            bail!("{name} ended ({status})");
        }
        running.check()
    });
    let measured = result.map_err(|error| anyhow!("{error:#}\n{}", profiler.log()))?;
    if !profiler.has_delivered() {
        bail!("{name} has delivered nothing\n{}", profiler.log());
    }
    running.check_busy(time)?;
    Ok(measured)
}

fn sample(group: &Group, time: Duration, mut check: impl FnMut() -> Result<()>) -> Result<Measured> {
    let start = Instant::now();
    let mut measured = Measured::default();
    let mut report = start;
    while start.elapsed() < time {
        thread::sleep(SAMPLE_INTERVAL);
        if lab::is_told() {
            bail!("told to stop while measuring");
        }
        check()?;
        let charge = group.charge()?;
        measured.add(charge);
        if Instant::now() >= report {
            let seconds = start.elapsed().as_secs();
            eprintln!("  {seconds} s: {} (peak {})", charge.describe(), measured.peak.describe());
            report += REPORT_INTERVAL;
        }
    }
    Ok(measured)
}

impl Measured {
    fn add(&mut self, charge: Charge) {
        if charge.resident_bytes() > self.peak.resident_bytes() {
            self.peak = charge;
        }
        self.last = charge;
    }
}

fn check_kernel(release: &str) -> Result<()> {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < KERNEL_MIN {
        let (major, minor) = KERNEL_MIN;
        bail!("Linux {} does not charge every BPF map; this needs {major}.{minor}", release.trim());
    }
    Ok(())
}

/// The table with all that says where it came from.
fn report(time: Duration, load: &Load, table: &str) -> Result<String> {
    let date = process::capture(Command::new("date").args(["--utc", "+%Y-%m-%d"]))?;
    let kovar = process::capture(Command::new(workspace::kovar()).arg("--version"))?;
    Ok(format!(
        "{}; {}. {}, OpenTelemetry eBPF profiler {}; each measured for {} minutes, by\n\n```sh\n{}\n```\n\n{table}\nThe load: {}.\n",
        date.trim(),
        machine::describe(),
        kovar.trim(),
        otel_profiler::VERSION,
        time.as_secs() / 60,
        machine::command_line(),
        load.names().join(", "),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_of_anonymous_and_kernel_memory_together_and_the_last_sample_stays() {
        let mut measured = Measured::default();
        let charge =
            |anonymous_bytes, kernel_bytes, file_bytes| Charge { anonymous_bytes, kernel_bytes, file_bytes };
        for it in [charge(10, 5, 900), charge(30, 20, 0), charge(35, 10, 99), charge(1, 2, 3)] {
            measured.add(it);
        }
        assert_eq!(measured, Measured { peak: charge(30, 20, 0), last: charge(1, 2, 3) });
    }

    #[test]
    fn kernels_that_do_not_charge_maps_are_refused() {
        assert!(check_kernel("6.12.0-13-cloud\n").is_ok());
        assert!(check_kernel("7.0.1\n").is_ok());
        assert!(check_kernel("6.1.0-53-cloud-amd64\n").unwrap_err().to_string().contains("6.12"));
    }
}
