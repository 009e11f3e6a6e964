//! The profiler's thread: wait for new stacks, switch and drain the counts, push.

use std::collections::HashSet;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use abi::{Counter, StackKey};
use model::Metric;
use symbolizer::Symbolizer;

use super::Output;
use super::ticks::{Delivered, Ticks};
use crate::clock::Clock;
use crate::event::{Event, Stack};
use crate::frame::{self, Frames, Place};
use crate::interval::{Cgroups, Interval, Sources};
use crate::process::{ImageKey, Processes, Seen};
use crate::sampler::Sampler;
use crate::stack::Stacks;
use crate::{Config, Error, host, metrics};

/// A program that looked at the old map before the switch has ended after this time.
const SWITCH_WAIT: Duration = Duration::from_millis(20);
/// How long a push waits for names; what has none by then is pushed as file and offset.
const SYMBOLS_WAIT: Duration = Duration::from_secs(1);
/// The same for the last push, which must fit into the collector's grace period.
const LAST_SYMBOLS_WAIT: Duration = Duration::from_secs(3);
/// Stacks that wait for mappings to be read again.
const CUT_STACKS_MAX: usize = 4096;
/// An image without stacks is let go after this time.
const IMAGE_IDLE: Duration = Duration::from_secs(120);
/// A profiler that should see samples and sees none for this long is unhealthy.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What others may know of the running profiler.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) ticks: Ticks,
    pub(super) metrics: Vec<Metric>,
    pub(super) problem: Option<String>,
}

/// A stack that may get more frames.
#[derive(Debug)]
struct CutStack {
    key: StackKey,
    image: ImageKey,
    kernel_frames: usize,
    /// Of the user half, leaf first.
    addresses: Vec<u64>,
}

/// All state of the thread.
pub(super) struct Session {
    config: Config,
    output: Box<dyn Output>,
    snapshot: Arc<Mutex<Snapshot>>,
    sampler: Sampler,
    clock: Clock,
    processes: Processes,
    frames: Frames,
    stacks: Stacks,
    cgroups: Cgroups,
    interval: Interval,
    delivered: Delivered,
    /// Stacks that were cut because their process's mappings may not have been complete, with their addresses.
    cut: Vec<CutStack>,
    undecodable: u64,
    last_sample: Instant,
    problem: Option<String>,
}

impl Session {
    pub(super) fn start(
        config: Config,
        output: Box<dyn Output>,
        snapshot: Arc<Mutex<Snapshot>>,
    ) -> Result<Self, Error> {
        let symbolizer = Symbolizer::spawn(symbolizer::Config::default())
            .map_err(|source| Error::System { what: "start the symbolizer's thread".into(), source })?;
        let sampler = Sampler::load(&config)?;
        if let Some(field) = &sampler.cgroup_missing {
            tracing::warn!("this kernel's types have no {field}: samples carry no container");
        }
        let clock = Clock::start(config.rate_hz, sampler.program()?)?;
        Ok(Self {
            config,
            output,
            snapshot,
            sampler,
            clock,
            processes: Processes::default(),
            frames: Frames::new(symbolizer),
            stacks: Stacks::default(),
            cgroups: Cgroups::default(),
            interval: Interval::start(),
            delivered: Delivered::default(),
            cut: Vec::new(),
            undecodable: 0,
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
            let until = self.processes.next_young().map_or(next_drain, |young| young.min(next_drain));
            if wait(self.sampler.ring_fd(), wake, until) {
                break;
            }
            self.read_events();
            self.processes.read_young();
            if Instant::now() < next_drain {
                continue;
            }
            next_drain = (next_drain + drain_every).max(Instant::now());
            let drained = self.drain();
            let followed = self.clock.follow_hotplug();
            self.report(drained.and(followed));
            if Instant::now() >= next_push {
                next_push = (next_push + push_every).max(Instant::now());
                self.push(SYMBOLS_WAIT);
            } else {
                self.frames.resolve(Duration::ZERO);
                self.show_live();
            }
            self.publish();
        }
        self.clock.stop();
        let drained = self.drain();
        // Counts of ticks that ran while the first drain switched.
        let drained = drained.and(self.drain());
        self.report(drained);
        self.push(LAST_SYMBOLS_WAIT);
        self.clock.read_counts();
        self.publish();
    }

    fn read_events(&mut self) {
        let mut received = Vec::new();
        self.undecodable += self.sampler.read_events(|event| received.push(event));
        // Which images are outlived already is known before any mapping is read.
        for event in &received {
            if let Event::Stack(stack) = event {
                self.processes.note(image_key(stack));
            }
        }
        for event in received {
            match event {
                Event::Cgroup { id, path } => self.cgroups.insert(id, path, self.output.as_ref()),
                Event::Stack(stack) => self.add_stack(stack),
            }
        }
    }

    fn add_stack(&mut self, stack: Stack) {
        let image = image_key(&stack);
        self.processes.see(Seen {
            key: image,
            pid: stack.visible_tgid,
            name: stack.comm,
            kernel_thread: host::is_kernel_thread(stack.task_flags),
        });
        // Sent again because the kernel's own table forgot it.
        if self.stacks.contains(&stack.key) {
            return;
        }
        let mut frames = Vec::with_capacity(stack.kernel.len() + stack.user.len());
        frames.extend(
            frame::instructions(&stack.kernel).map(|address| self.frames.id(Place::Kernel { address })),
        );
        let kernel_frames = frames.len();
        let found = self.processes.places(&image, &stack.user);
        frames.extend(found.places.into_iter().map(|place| self.frames.id(place)));
        self.stacks.insert(stack.key, image, stack.cgroup_id, frames.into_boxed_slice());
        if found.may_come && self.cut.len() < CUT_STACKS_MAX {
            self.cut.push(CutStack { key: stack.key, image, kernel_frames, addresses: stack.user });
        } else {
            self.processes.stacks_cut += u64::from(found.cut);
        }
    }

    /// Looks again at stacks that were cut: mappings that were missing may be there by now.
    fn complete_stacks(&mut self) {
        for stack in std::mem::take(&mut self.cut) {
            let Some(known) = self.stacks.get(&stack.key) else {
                continue;
            };
            let mut frames = known.frames[..stack.kernel_frames].to_vec();
            let found = self.processes.places(&stack.image, &stack.addresses);
            if found.may_come {
                self.cut.push(stack);
                continue;
            }
            self.processes.stacks_cut += u64::from(found.cut);
            frames.extend(found.places.into_iter().map(|place| self.frames.id(place)));
            self.stacks.replace(&stack.key, frames.into_boxed_slice());
        }
    }

    fn drain(&mut self) -> Result<(), Error> {
        self.sampler.switch()?;
        std::thread::sleep(SWITCH_WAIT);
        // A stack's frames were sent before it was counted: have them before its count.
        self.read_events();
        self.complete_stacks();
        let mut unknown: Vec<StackKey> = Vec::new();
        let Self { sampler, stacks, interval, delivered, last_sample, .. } = self;
        let drained = sampler.drain(|key, count| {
            *last_sample = Instant::now();
            if stacks.touch(&key) {
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

    fn push(&mut self, wait: Duration) {
        self.frames.resolve(wait);
        let (batch, filtered) = self.interval.batch(&self.sources());
        self.delivered.filtered += filtered;
        let samples: u64 = batch.profiles.iter().map(|profile| profile.samples).sum();
        let taken = self.output.push(batch).min(samples);
        self.delivered.samples += taken;
        self.delivered.not_taken += samples - taken;
        self.interval = Interval::start();
        self.stacks.interval += 1;
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
        let crowded = self.frames.is_full();
        let gone = self.stacks.evict(crowded);
        for key in &gone {
            self.sampler.forget(key);
        }
        let used: HashSet<ImageKey> = self.stacks.values().map(|stack| stack.image).collect();
        self.processes.retain(IMAGE_IDLE, |key| used.contains(key));
        self.processes.close_unused_files();
        let cgroups: HashSet<u64> = self.stacks.values().map(|stack| stack.cgroup_id).collect();
        for id in self.cgroups.forget_unused(|id| cgroups.contains(&id)) {
            self.sampler.forget_cgroup(id);
        }
        if crowded {
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
    fn report(&mut self, round: Result<(), Error>) {
        let problem = round.err().map(|error| error.to_string());
        if let Some(problem) = &problem
            && self.problem.as_ref() != Some(problem)
        {
            tracing::error!("{problem}");
        }
        self.problem = problem;
    }

    fn publish(&mut self) {
        self.delivered.pending = self.interval.samples();
        let counters = self.sampler.counters();
        let ticks =
            Ticks::account(self.clock.ticks_counted(), self.clock.ticks_idle(), &counters, self.delivered);
        let silent = self.last_sample.elapsed() > SILENCE_MAX && counters[Counter::Ran as usize] > 0;
        let metrics = metrics::collect(&metrics::State {
            counters: &counters,
            ticks: &ticks,
            cpus: self.clock.cpus(),
            processes: &self.processes,
            frames: &self.frames,
            stacks: &self.stacks,
            cgroups: &self.cgroups,
            undecodable: self.undecodable,
            map_bytes: self.sampler.map_bytes(),
        });
        let symbolizer_ended = !self.frames.symbolizer().is_alive();
        let problem = self.problem.clone().or_else(|| {
            symbolizer_ended.then(|| "the symbolizer's thread has ended: new frames get no names".to_owned())
        });
        let problem = problem.or_else(|| {
            silent.then(|| format!("no sample in {} s although the clock ticks", SILENCE_MAX.as_secs()))
        });
        let mut snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        *snapshot = Snapshot { ticks, metrics, problem };
    }
}

fn image_key(stack: &Stack) -> ImageKey {
    ImageKey { tgid: stack.key.tgid, exec_id: stack.key.exec_id, start_time_ns: stack.start_time_ns }
}

/// Waits for the ring buffer, the end, or `until`; true at the end.
fn wait(ring: RawFd, wake: RawFd, until: Instant) -> bool {
    let mut fds = [ring, wake].map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    let left = until.saturating_duration_since(Instant::now());
    // Rounded up: a timeout of 0 would spin through the last millisecond.
    let timeout_ms = (left.as_micros().div_ceil(1000)).min(60_000) as i32;
    // SAFETY: two pollfds; an interrupted or failed poll is a wake-up without cause.
    unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout_ms) };
    fds[1].revents != 0
}
