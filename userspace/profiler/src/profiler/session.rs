//! The profiler's thread: wait for new stacks, switch and drain the counts, push.

use std::os::fd::RawFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use abi::{EXECUTABLE_EVICTED, End, StackKey};
use foldhash::HashSet;
use symbolizer::Symbolizer;

use super::Output;
use super::snapshot::Snapshot;
use super::ticks::Delivered;
use crate::clock::Clock;
use crate::frame::Frames;
use crate::interval::{Cgroups, Interval, Sources};
use crate::online::Online;
use crate::process::{ImageKey, Processes};
use crate::raw::RawSamples;
use crate::recorder::{Recorder, monotonic_ns};
use crate::sampler::Sampler;
use crate::stack::Stacks;
use crate::unwinding::Tables;
use crate::{Config, Error};

/// A program that looked at the old map before the switch has ended after this time.
const SWITCH_WAIT: Duration = Duration::from_millis(20);
/// How long a push waits for names; what has none by then is pushed as file and offset.
const SYMBOLS_WAIT: Duration = Duration::from_secs(3);
/// The same for the last push, which must fit into the collector's grace period.
const LAST_SYMBOLS_WAIT: Duration = Duration::from_secs(3);
/// The last samples wait this long for tables.
const LAST_TABLES_WAIT: Duration = Duration::from_millis(1500);
/// Mapping records are certain about a millisecond after they were written.
const RECORDS_WAIT: Duration = Duration::from_millis(2);
/// Records wake the reader at once, but in the long run no more often than this: a storm of processes costs a
/// hundred wake-ups a second, not one for each record.
pub(super) const RECORDS_PAUSE: Duration = Duration::from_millis(10);
/// So far ahead of that rate it may be.
pub(super) const RECORDS_BURST: Duration = Duration::from_millis(100);
/// What poll(2) leaves out.
const NO_FD: RawFd = -1;
/// While names are waited for, the kernel's records are read this often.
const RESOLVE_STEP: Duration = Duration::from_millis(20);
/// An image without stacks is let go after this time.
const IMAGE_IDLE: Duration = Duration::from_secs(120);
/// A profiler that should see samples and sees none for this long is unhealthy.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(60);

/// All state of the thread.
pub(super) struct Session {
    config: Config,
    pub(super) output: Box<dyn Output>,
    pub(super) snapshot: Arc<Mutex<Snapshot>>,
    pub(super) sampler: Sampler,
    online: Online,
    pub(super) clock: Clock,
    pub(super) recorder: Recorder,
    pub(super) processes: Processes,
    pub(super) tables: Tables,
    pub(super) raw: RawSamples,
    pub(super) frames: Frames,
    pub(super) stacks: Stacks,
    pub(super) cgroups: Cgroups,
    pub(super) interval: Interval,
    pub(super) delivered: Delivered,
    /// When the reads of records so far would have been due, one each [`RECORDS_PAUSE`].
    pub(super) records_due: Instant,
    /// Samples of finished intervals whose user stack is not complete, by reason.
    pub(super) incomplete: [u64; End::ALL.len()],
    pub(super) undecodable: u64,
    /// Intervals that ended early because there were too many stacks.
    pub(super) early_pushes: u64,
    pub(super) last_sample: Instant,
    pub(super) problem: Option<String>,
}

impl Session {
    pub(super) fn start(
        config: Config,
        output: Box<dyn Output>,
        snapshot: Arc<Mutex<Snapshot>>,
    ) -> Result<Self, Error> {
        let symbolizer = Symbolizer::spawn(symbolizer::Config::default())
            .map_err(|source| Error::System { what: "start the symbolizer's thread".into(), source })?;
        // Before the first sample, so that what begins from now on is known by its records.
        let mut online = Online::open()?;
        let recorder = Recorder::start(online.cpus()?)?;
        let (sampler, memory) = Sampler::load(&config, true)?;
        let tables = Tables::new(Box::new(memory), config.tables_max_bytes)?;
        if let Some(field) = &sampler.cgroup_missing {
            tracing::warn!("this kernel's types have no {field}: samples carry no container");
        }
        if let Some(field) = &sampler.unwind_missing {
            tracing::warn!("this kernel's types have no {field}: user stacks follow frame pointers");
        }
        if let Some(field) = &sampler.exec_pages_missing {
            tracing::warn!(
                "this kernel's types have no {field}: libraries that are unmapped are noticed late"
            );
        }
        let clock = Clock::start(config.rate_hz, sampler.program()?, online.cpus()?)?;
        let raw = RawSamples::new(clock.cpus(), config.rate_hz);
        Ok(Self {
            config,
            output,
            snapshot,
            sampler,
            online,
            clock,
            recorder,
            processes: Processes::default(),
            tables,
            raw,
            frames: Frames::new(symbolizer),
            stacks: Stacks::default(),
            cgroups: Cgroups::default(),
            interval: Interval::start(),
            delivered: Delivered::default(),
            records_due: Instant::now(),
            incomplete: [0; End::ALL.len()],
            undecodable: 0,
            early_pushes: 0,
            last_sample: Instant::now(),
            problem: None,
        })
    }

    /// Runs until `wake` becomes readable, then pushes what is left.
    pub(super) fn run(&mut self, wake: RawFd) {
        let drain_every = Duration::from_millis(self.config.drain_interval_ms);
        let push_every = Duration::from_millis(self.config.push_interval_ms);
        let (mut next_drain, mut next_push) = (Instant::now() + drain_every, Instant::now() + push_every);
        loop {
            let fds = [wake, self.sampler.ring_fd(), self.records_fd(), self.tables.ready_fd()];
            if wait(fds, self.next_due(next_drain)) {
                break;
            }
            self.read_events();
            if Instant::now() < next_drain {
                continue;
            }
            next_drain = (next_drain + drain_every).max(Instant::now());
            let drained = self.drain();
            let followed = self.follow_hotplug();
            self.report(drained.and(followed));
            let is_crowded = self.stacks.is_crowded();
            self.early_pushes += u64::from(is_crowded);
            if is_crowded || Instant::now() >= next_push {
                let now = Instant::now();
                next_push = (next_push + push_every).clamp(now, now + push_every);
                self.push(SYMBOLS_WAIT);
                self.publish(true);
            } else {
                self.frames.resolve(Duration::ZERO);
                self.show_live();
                self.publish(false);
            }
        }
        self.clock.stop();
        let drained = self.drain();
        // Counts of ticks that ran while the first drain switched.
        let drained = drained.and(self.drain());
        self.report(drained);
        self.finish_raw(LAST_TABLES_WAIT);
        self.push(LAST_SYMBOLS_WAIT);
        self.clock.read_counts();
        self.publish(true);
    }

    fn follow_hotplug(&mut self) -> Result<(), Error> {
        let online = self.online.cpus()?;
        let changed = self.clock.follow_hotplug(online);
        // The two kinds of events of a CPU live and die together.
        if !matches!(changed, Ok(false)) || self.recorder.cpus() != self.clock.cpus() {
            self.recorder.follow_hotplug(online)?;
        }
        changed.map(drop)
    }

    fn drain(&mut self) -> Result<(), Error> {
        self.sampler.switch()?;
        let until = Instant::now() + SWITCH_WAIT;
        while Instant::now() < until {
            wait([NO_FD, self.sampler.ring_fd(), self.records_fd()], until);
            // A stack's frames were sent before it was counted: have them before its count.
            self.read_events();
        }
        let mut unknown: Vec<StackKey> = Vec::new();
        let Self { sampler, stacks, tables, interval, delivered, last_sample, .. } = self;
        let drained = sampler.drain(|key, count| {
            *last_sample = Instant::now();
            if let Some(stack) = stacks.touch(&key) {
                stack.slots.iter().for_each(|slot| tables.used(*slot));
                tables.used_image(&stack.image);
                interval.add(key, count);
            } else {
                delivered.without_stack += count;
                unknown.push(key);
            }
        });
        for key in &unknown {
            self.sampler.forget(key);
        }
        drained
    }

    /// When there is something to do although no descriptor becomes readable.
    fn next_due(&self, next_drain: Instant) -> Instant {
        let now = Instant::now();
        let due_ns = self.processes.next_due_ns().map(|due| due.saturating_sub(monotonic_ns()));
        // Never sooner than records settle, or what is overdue would spin.
        let processes = due_ns.map(|in_ns| now + Duration::from_nanos(in_ns).max(RECORDS_WAIT));
        let younger = self.raw.waits_for_records(self.processes.applied_ns());
        let records_rest = self.records_rest();
        let records = (younger || !self.recorder.unsettled().is_empty()).then_some(now + RECORDS_WAIT);
        let records = records.map(|due| records_rest.map_or(due, |rest| due.max(rest)));
        let tables = self.tables.next_poll().map(|due| due.max(now + RECORDS_WAIT));
        [processes, records, records_rest, tables].into_iter().flatten().fold(next_drain, Instant::min)
    }

    /// Until when records wake nobody, if they do not now.
    fn records_rest(&self) -> Option<Instant> {
        let from = self.records_due.checked_sub(RECORDS_BURST)?;
        (from > Instant::now()).then_some(from)
    }

    /// What becomes readable with records, when they may wake the reader now.
    fn records_fd(&self) -> RawFd {
        if self.records_rest().is_some() { NO_FD } else { self.recorder.fd() }
    }

    /// Waits for the tables that raw samples want, then takes what there is.
    fn finish_raw(&mut self, wait_max: Duration) {
        let until = Instant::now() + wait_max;
        while self.raw.len() > 0 && Instant::now() < until {
            let fds = [self.tables.ready_fd()];
            wait(fds, self.next_due(until));
            self.read_events();
        }
        self.complete_raw(true);
    }

    /// Waits for names, and reads and drains on meanwhile.
    fn resolve(&mut self, wait_max: Duration) {
        let until = Instant::now() + wait_max;
        let drain_every = Duration::from_millis(self.config.drain_interval_ms);
        let mut next_drain = Instant::now() + drain_every;
        loop {
            self.frames.resolve(until.saturating_duration_since(Instant::now()).min(RESOLVE_STEP));
            self.read_events();
            if Instant::now() >= next_drain {
                next_drain = Instant::now() + drain_every;
                let drained = self.drain();
                self.report(drained);
                self.show_live();
            }
            if self.frames.is_resolved() || Instant::now() >= until {
                return;
            }
        }
    }

    fn push(&mut self, wait: Duration) {
        self.resolve(wait);
        let (batch, left_out) = self.interval.batch(&self.sources());
        self.delivered.filtered += left_out.filtered;
        self.delivered.without_stack += left_out.unknown;
        self.interval.add_incomplete(&self.stacks, &mut self.incomplete);
        self.interval = Interval::start();
        // Records wait meanwhile, and until they are read the kernel may unwind by what is not there any more.
        self.read_events();
        let samples: u64 = batch.profiles.iter().map(|profile| profile.samples).sum();
        let taken = self.output.push(batch).min(samples);
        self.read_events();
        self.delivered.samples += taken;
        self.delivered.not_taken += samples - taken;
        self.let_go();
    }

    fn show_live(&mut self) {
        if self.output.live_wanted() {
            let (batch, _) = self.interval.batch(&self.sources());
            self.output.live(batch);
        }
    }

    /// Keeps memory bounded: stacks not met lately go, then images and frames that nothing refers to.
    fn let_go(&mut self) {
        // Their stacks follow frame pointers, and nothing else asks for their tables.
        for slot in self.stacks.slots_in_use() {
            if self.tables.state(slot) == EXECUTABLE_EVICTED
                && let Some(binary) = self.processes.binary(slot)
            {
                self.tables.want(binary);
            }
        }
        self.tables.end_interval();
        self.stacks.interval += 1;
        let crowded = self.frames.is_full();
        let gone = self.stacks.evict(crowded);
        for key in &gone {
            self.sampler.forget(key);
        }
        let stacks = self.stacks.values().map(|stack| stack.image);
        let used: HashSet<ImageKey> = stacks.chain(self.raw.images()).collect();
        self.processes.retain(IMAGE_IDLE, |key| used.contains(key));
        let released: HashSet<u32> = self.processes.close_unused_files().into_iter().collect();
        released.iter().for_each(|slot| self.tables.release(*slot));
        // Frames are slot and offset: the stacks of another file in the same slot may have the same keys.
        for key in self.stacks.remove_of(&released) {
            self.sampler.forget(&key);
        }
        let cgroups = self.stacks.values().map(|stack| stack.cgroup_id);
        let cgroups: HashSet<u64> = cgroups.chain(self.raw.cgroups()).collect();
        for id in self.cgroups.forget_unused(|id| cgroups.contains(&id)) {
            self.sampler.forget_cgroup(id);
        }
        if crowded || self.frames.may_be_thinned() {
            self.frames.retain(self.stacks.frames_mut());
        }
    }

    fn sources(&self) -> Sources<'_> {
        Sources {
            stacks: &self.stacks,
            processes: &self.processes,
            frames: &self.frames,
            cgroups: &self.cgroups,
            period_ns: self.clock.period_ns(),
            only: &self.config.only,
        }
    }

    /// Notes how a round went; a problem that lasts is logged once.
    pub(super) fn report(&mut self, round: Result<(), Error>) {
        let problem = round.err().map(|error| error.to_string());
        if let Some(problem) = &problem
            && self.problem.as_ref() != Some(problem)
        {
            tracing::error!("{problem}");
        }
        self.problem = problem;
    }
}

/// Waits for any of these to become readable, or `until`; true when the first has.
fn wait<const N: usize>(fds: [RawFd; N], until: Instant) -> bool {
    let mut fds = fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    let left = until.saturating_duration_since(Instant::now());
    // Rounded up: a timeout of 0 would spin through the last millisecond.
    let timeout_ms = (left.as_micros().div_ceil(1000)).min(60_000) as i32;
    // SAFETY: as many pollfds as said; an interrupted or failed poll is a wake-up without cause.
    unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout_ms) };
    fds.first().is_some_and(|fd| fd.revents != 0)
}
