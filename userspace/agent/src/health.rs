//! What is wrong with the collector, if anything.
//!
//! A component that should produce and produces nothing for [`SILENT_MAX`] is unhealthy, whatever it says itself.

use sinks::{OutletState, OutletStatus};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// How long a component may produce nothing.
const SILENT_MAX: Duration = Duration::from_secs(60);

/// How often counts are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// When a count last grew.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    count: u64,
    grew: Instant,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { count: 0, grew: Instant::now() }
    }

    pub(crate) fn look(&mut self, count: u64) {
        if count > self.count {
            *self = Self { count, grew: Instant::now() };
        }
    }

    pub(crate) fn silent(&self) -> Duration {
        self.grew.elapsed()
    }
}

/// The profiler as far as its health goes.
#[derive(Debug)]
pub(crate) struct ProfilerView {
    pub(crate) says: Result<(), String>,
    /// Since the last tick of the sampling clock.
    pub(crate) ticks_silent: Duration,
    /// Since the last sample that came through the kernel.
    pub(crate) samples_silent: Duration,
    /// Since the last batch of profiles.
    pub(crate) profiles_silent: Duration,
    pub(crate) push_interval: Duration,
}

/// The sentences about what is wrong with the profiler.
pub(crate) fn profiler_problems(view: &ProfilerView) -> Vec<String> {
    let mut problems = Vec::new();
    if let Err(problem) = &view.says {
        problems.push(format!("profiler: {problem}"));
    }
    if view.ticks_silent > SILENT_MAX {
        problems
            .push(format!("profiler: no tick of the sampling clock for {} s", view.ticks_silent.as_secs()));
    }
    if view.samples_silent <= SILENT_MAX && view.profiles_silent > SILENT_MAX + view.push_interval {
        problems
            .push(format!("profiler: samples come, but no profile for {} s", view.profiles_silent.as_secs()));
    }
    problems
}

/// What is wrong with a destination.
pub(crate) fn outlet_problem(status: &OutletStatus, has_ended: bool, now_unix_ms: i64) -> Option<String> {
    let name = format!("destination {} ({})", status.name, status.url);
    match &status.state {
        _ if has_ended => Some(format!("{name}: its task has ended")),
        OutletState::Retrying { since_unix_ms, last_error } => {
            let ms = u64::try_from(now_unix_ms.saturating_sub(*since_unix_ms)).unwrap_or(0);
            (Duration::from_millis(ms) > SILENT_MAX)
                .then(|| format!("{name}: takes nothing for {} s: {last_error}", ms / 1000))
        }
        OutletState::Working => {
            let (first_unix_ms, newest_unix_ms) = status.drops_unix_ms?;
            let ms = u64::try_from(newest_unix_ms.saturating_sub(first_unix_ms)).unwrap_or(0);
            let error = status.last_error.as_deref().unwrap_or("no reason given");
            (Duration::from_millis(ms) >= SILENT_MAX)
                .then(|| format!("{name}: refuses every record for {} s: {error}", ms / 1000))
        }
        OutletState::Stopped => None,
    }
}

/// Calls `look` again and again until it shall stop.
pub(crate) async fn watch(look: impl Fn() + Send, mut shutdown: transport::Shutdown) {
    let mut interval = tokio::time::interval(LOOK_INTERVAL);
    loop {
        tokio::select! {
            _ = transport::stop_asked(&mut shutdown) => return,
            _ = interval.tick() => look(),
        }
    }
}

pub(crate) fn now_unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{ProfilerView, outlet_problem, profiler_problems};
    use sinks::{OutletState, OutletStatus};
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn view() -> ProfilerView {
        ProfilerView {
            says: Ok(()),
            ticks_silent: SECOND,
            samples_silent: SECOND,
            profiles_silent: SECOND,
            push_interval: 15 * SECOND,
        }
    }

    #[test]
    fn a_profiler_that_produces_nothing_is_unhealthy_whatever_it_says() {
        assert!(profiler_problems(&view()).is_empty());
        let silent = profiler_problems(&ProfilerView { ticks_silent: 61 * SECOND, ..view() });
        assert_eq!(silent, ["profiler: no tick of the sampling clock for 61 s"]);
        let stuck = profiler_problems(&ProfilerView { profiles_silent: 76 * SECOND, ..view() });
        assert_eq!(stuck, ["profiler: samples come, but no profile for 76 s"]);
        // An idle machine has ticks and no samples.
        let idle = ProfilerView { samples_silent: 80 * SECOND, profiles_silent: 80 * SECOND, ..view() };
        assert!(profiler_problems(&idle).is_empty());
        let says = profiler_problems(&ProfilerView { says: Err("broken".into()), ..view() });
        assert_eq!(says, ["profiler: broken"]);
    }

    #[test]
    fn a_destination_that_fails_for_a_minute_is_named_with_its_error() {
        let status = OutletStatus {
            name: "a".into(),
            kind: "pyroscope",
            url: "http://a".into(),
            state: OutletState::Retrying { since_unix_ms: 1000, last_error: "refused".into() },
            last_error: None,
            drops_unix_ms: None,
            sent: Default::default(),
            dropped: Vec::new(),
            pending: Default::default(),
        };
        assert_eq!(outlet_problem(&status, false, 50_000), None);
        let text = outlet_problem(&status, false, 63_000).expect("a problem");
        assert_eq!(text, "destination a (http://a): takes nothing for 62 s: refused");
        let working = OutletStatus { state: OutletState::Working, ..status };
        assert_eq!(outlet_problem(&working, false, 63_000), None);
        assert!(outlet_problem(&working, true, 0).expect("a problem").contains("has ended"));
        let drops = |newest_unix_ms| OutletStatus {
            last_error: Some("HTTP 400: no".into()),
            drops_unix_ms: Some((1000, newest_unix_ms)),
            ..working.clone()
        };
        assert_eq!(outlet_problem(&drops(1000), false, 900_000), None, "one bad record");
        let text = outlet_problem(&drops(61_000), false, 63_000).expect("a problem");
        assert_eq!(text, "destination a (http://a): refuses every record for 60 s: HTTP 400: no");
    }
}
