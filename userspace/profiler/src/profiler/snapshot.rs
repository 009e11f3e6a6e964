//! What others may know of the running profiler: a little after each drain, everything when it is asked for.

use std::sync::{MutexGuard, PoisonError};

use abi::Counter;

use super::session::{SILENCE_MAX, Session};
use super::ticks::Ticks;
use crate::metrics::Figures;

/// As of the last drain; [`Self::figures`] as of the last drain while they are read, else as of the last push.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) progress: Progress,
    pub(super) figures: Option<Box<Figures>>,
    /// They were read since they were noted.
    pub(super) read: bool,
    pub(super) problem: Option<String>,
}

/// What a working profiler makes grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Ticks of the sampling clock.
    pub ticks: u64,
    /// Samples that reached a profile.
    pub delivered: u64,
}

impl Session {
    /// Tells others how it stands; everything when `all` is to be told or somebody has read the last.
    pub(super) fn publish(&mut self, all: bool) {
        self.delivered.pending = self.interval.samples() + self.raw.len() as u64;
        let all = all || self.snapshot().is_wanted();
        let told = all.then(|| self.figures());
        let problem = self.problem();
        let progress = Progress { ticks: self.clock.ticks_counted(), delivered: self.delivered.samples };
        let mut snapshot = self.snapshot();
        (snapshot.progress, snapshot.problem) = (progress, problem);
        if let Some(figures) = told {
            (snapshot.figures, snapshot.read) = (Some(figures), false);
        }
    }

    fn figures(&mut self) -> Box<Figures> {
        let counters = self.sampler.counters();
        let ticks =
            Ticks::account(self.clock.ticks_counted(), self.clock.ticks_idle(), &counters, self.delivered);
        let (processes, binaries) = (&self.processes, self.processes.binaries());
        Box::new(Figures {
            counters,
            ticks,
            cpus: self.clock.cpus(),
            stacks: self.stacks.len(),
            stacks_evicted: self.stacks.evicted,
            frames: self.frames.len(),
            frames_dropped: self.frames.dropped,
            images: processes.len(),
            cgroups: self.cgroups.len(),
            cgroups_dropped: self.cgroups.dropped,
            executables: binaries.len(),
            executables_evicted: binaries.evicted,
            executables_refused: binaries.refused,
            executables_unreadable: binaries.unreadable,
            executables_without_slot: binaries.without_slot,
            executables_open_slow: binaries.open_slow(),
            executables_uncompared: binaries.uncompared,
            executables_found_through_mates: binaries.found_through_mates,
            unopened_dropped: processes.unopened_dropped(),
            slow_left_out: processes.slow_left_out(),
            maps_read: processes.maps_read,
            maps_unreadable: processes.maps_unreadable,
            followed: processes.followed(),
            dropped: processes.dropped(),
            unchecked: processes.unchecked,
            recorder_bytes: self.recorder.bytes(),
            records_read: self.recorder.read,
            records_lost: self.recorder.lost,
            records_undecodable: self.recorder.undecodable,
            records_early: self.recorder.early,
            images_not_waited_for: processes.not_waited_for,
            tables: self.tables.metrics(),
            raw_waiting: self.raw.len(),
            raw_completed: self.raw.completed,
            raw_crowded_out: self.raw.crowded_out,
            incomplete: self.incomplete,
            undecodable: self.undecodable,
            early_pushes: self.early_pushes,
            map_bytes: self.sampler.map_bytes(),
            symbolizer: self.frames.symbolizer().metrics(),
        })
    }

    fn problem(&mut self) -> Option<String> {
        if let Some(problem) = &self.problem {
            return Some(problem.clone());
        }
        if !self.frames.symbolizer().is_alive() {
            return Some("the symbolizer's thread has ended: new frames get no names".to_owned());
        }
        let silent =
            self.last_sample.elapsed() > SILENCE_MAX && self.sampler.counters()[Counter::Ran as usize] > 0;
        silent.then(|| format!("no sample in {} s although the clock ticks", SILENCE_MAX.as_secs()))
    }

    fn snapshot(&self) -> MutexGuard<'_, Snapshot> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshot {
    fn is_wanted(&self) -> bool {
        self.read || self.figures.is_none()
    }
}
