//! `kovar profile`: profiles for a while and writes one file.

use super::formats::{Format, WholeFile};
use crate::cli;
use anyhow::{Context, bail};
use model::ProfileBatch;
use profiler::{Only, Profiler, Ticks};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use store::merge::{Frames, Limits, Merger};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

/// How often the progress line is written.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// How often batches are merged; they are kept in memory until then.
const PUSH_INTERVAL_MS: u64 = 5000;

/// As the setting `profiler.tables_max_bytes` has it by default.
const TABLES_MAX_BYTES: u64 = 96 << 20;

/// The profiler's reason for samples of processes that were not asked for, which are no loss.
const FILTERED: &str = "filtered";

/// Profiles as the options say.
///
/// # Errors
/// A missing privilege or kernel feature, a process that does not exist, a file that cannot be written.
pub(crate) fn run(options: &cli::Profile) -> anyhow::Result<()> {
    let format = Format::of(&options.output)?;
    let only = match (options.pid, &options.container) {
        (Some(pid), _) if !Path::new(&format!("/proc/{pid}")).exists() => {
            bail!("there is no process {pid}");
        }
        (Some(pid), _) => Only::Pid(pid),
        (None, Some(id)) => Only::Container(id.clone()),
        (None, None) => Only::Everything,
    };
    let config = profiler::Config {
        rate_hz: options.rate_hz,
        kernel: true,
        user: true,
        drain_interval_ms: 1000,
        push_interval_ms: PUSH_INTERVAL_MS,
        tables_max_bytes: TABLES_MAX_BYTES,
        only,
    };
    let file = WholeFile::create(&options.output)?;
    let merged = Merged::default();
    let profiler = Profiler::start(config, Box::new(merged.clone()))?;
    let started = Instant::now();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let waited = runtime.block_on(wait(options.duration.duration(), &profiler));
    let ticks = profiler.stop();
    let took = started.elapsed();
    waited?;

    let (profile, truncated) = merged.finish();
    let samples: i64 = profile.sample.iter().filter_map(|sample| sample.value.first()).sum();
    let samples = samples / profile.period.max(1);
    file.write(&format.render(&profile)?)?;
    let mut err = std::io::stderr().lock();
    writeln!(err, "{}: {samples} samples in {:.1} s", options.output.display(), took.as_secs_f64())?;
    if truncated {
        writeln!(err, "there were too many different stacks; some are merged into one named (truncated)")?;
    }
    write!(err, "{}", account(&ticks))?;
    Ok(())
}

/// Waits until the time is over or a signal comes, with a progress line on a terminal.
async fn wait(duration: Duration, profiler: &Profiler) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listen to signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen to signals")?;
    let started = Instant::now();
    let mut progress = tokio::time::interval(PROGRESS_INTERVAL);
    let terminal = std::io::stderr().is_terminal();
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(started + duration) => break,
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = progress.tick() => {}
        }
        if terminal {
            let done = started.elapsed().as_secs();
            let ticks = profiler.ticks();
            let samples = ticks.delivered + ticks.pending;
            let mut err = std::io::stderr().lock();
            write!(err, "\r\x1b[Kprofiling, {done} of {} s, {samples} samples", duration.as_secs())?;
            err.flush()?;
        }
    }
    if terminal {
        write!(std::io::stderr().lock(), "\r\x1b[K")?;
    }
    Ok(())
}

/// Where the ticks went, as a table. The share is of the ticks that were asked for and met a busy CPU.
fn account(ticks: &Ticks) -> String {
    let filtered = ticks.lost.iter().filter(|(reason, _)| *reason == FILTERED).map(|(_, count)| count).sum();
    let asked = ticks.counted.saturating_sub(ticks.idle).saturating_sub(filtered);
    let percent = if asked == 0 { 100.0 } else { ticks.delivered as f64 * 100.0 / asked as f64 };
    let mut rows = vec![
        ("ticks counted".to_owned(), ticks.counted, String::new()),
        ("  on an idle CPU".to_owned(), ticks.idle, String::new()),
    ];
    if filtered > 0 {
        rows.push(("  of other processes".to_owned(), filtered, String::new()));
    }
    rows.push(("  delivered".to_owned(), ticks.delivered, format!("  {percent:.2} % of the rest")));
    let lost = ticks.lost.iter().filter(|(reason, count)| *count > 0 && *reason != FILTERED);
    rows.extend(lost.map(|(reason, count)| (format!("  lost: {reason}"), *count, String::new())));
    let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, count, note)| format!("{name:width$} {count:>10}{note}\n")).collect()
}

/// Everything that was sampled, merged as it comes.
#[derive(Debug, Clone, Default)]
struct Merged(Arc<Mutex<Merger>>);

impl Merged {
    /// The profile, and whether a limit was hit.
    fn finish(&self) -> (model::pprof::Profile, bool) {
        let mut merger = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let merger = std::mem::replace(&mut *merger, Merger::new(Limits::default()));
        let truncated = merger.truncated();
        (merger.finish(), truncated)
    }
}

impl profiler::Output for Merged {
    fn live_wanted(&self) -> bool {
        false
    }

    fn live(&self, _batch: ProfileBatch) {}

    fn push(&self, batch: ProfileBatch) -> u64 {
        let mut taken = 0;
        let mut merger = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for process in batch.profiles {
            let mut labels = vec![("process_name", process.resource.process_name.as_str())];
            labels.extend(process.resource.container_id.as_deref().map(|id| ("container_id", id)));
            merger.add(&process.profile, &labels, Frames::All);
            taken += process.samples;
        }
        taken
    }

    fn container_id(&self, cgroup_path: &str) -> Option<String> {
        enrich::container_id(cgroup_path).map(|container| container.id)
    }
}

#[cfg(test)]
mod tests {
    use super::account;
    use profiler::Ticks;

    #[test]
    fn the_account_names_every_loss_and_the_share_delivered() {
        let lost = vec![("ring_full", 1), ("other", 0), ("filtered", 500)];
        let text = account(&Ticks { counted: 700, idle: 100, delivered: 99, pending: 0, lost });
        assert!(text.contains("99  99.00 % of the rest\n"), "{text}");
        assert!(text.contains("lost: ring_full") && text.contains("of other processes        500"), "{text}");
        assert!(!text.contains("lost: other") && !text.contains("lost: filtered"), "{text}");
    }
}
