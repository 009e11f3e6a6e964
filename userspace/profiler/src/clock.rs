//! The sampling clock: one perf event per online CPU, followed through hot-plug, and its own account of ticks.

use std::fs;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use perf_event_open_sys as sys;
use perf_event_open_sys::bindings;

use crate::Error;
use crate::online::{self, CpuEvent, Online, PerCpu};

const NANOSECONDS: u64 = 1_000_000_000;
/// `/proc/stat` counts in USER_HZ, 100 on every Linux architecture that BPF runs on.
pub(crate) const STAT_TICK_NS: u64 = NANOSECONDS / 100;

/// The clock of all CPUs.
#[derive(Debug)]
pub(crate) struct Clock {
    period_ns: u64,
    program: OwnedFd,
    events: PerCpu<Event>,
    /// Of events that were closed.
    closed_ns: u64,
    idle_at_start_ns: u64,
}

#[derive(Debug)]
struct Event {
    fd: OwnedFd,
    counted_ns: u64,
}

impl Clock {
    /// Opens an event on every online CPU and attaches the program to it.
    pub(crate) fn start(rate_hz: u32, program: BorrowedFd<'_>, online: &[u32]) -> Result<Self, Error> {
        let program = program
            .try_clone_to_owned()
            .map_err(|source| Error::System { what: "duplicate the program's descriptor".into(), source })?;
        let period_ns = NANOSECONDS / u64::from(rate_hz);
        let idle_at_start_ns = idle_ns();
        let events = PerCpu::open(online, |cpu| Event::open(cpu, period_ns, &program))?;
        Ok(Self { period_ns, program, events, closed_ns: 0, idle_at_start_ns })
    }

    /// Whether an event can be opened at all; leaves nothing behind.
    pub(crate) fn probe() -> Result<(), Error> {
        let cpu = Online::open()?.cpus()?.first().copied().unwrap_or(0);
        open_event(cpu, NANOSECONDS).map(drop)
    }

    /// Nanoseconds that one sample stands for.
    pub(crate) fn period_ns(&self) -> u64 {
        self.period_ns
    }

    /// CPUs sampled now.
    pub(crate) fn cpus(&self) -> usize {
        self.events.len()
    }

    /// Opens events on CPUs that came online, and again on those whose event died while they were offline.
    /// Reads all counts, so that a dead event's last count is kept. Gives whether any event is another now.
    pub(crate) fn follow_hotplug(&mut self, online: &[u32]) -> Result<bool, Error> {
        let Self { period_ns, program, events, closed_ns, .. } = self;
        let mut closed = 0;
        let opened = events.follow(
            online,
            |cpu| Event::open(cpu, *period_ns, program),
            |mut event| {
                event.is_alive();
                *closed_ns += event.counted_ns;
                closed += 1;
            },
        )?;
        Ok(opened + closed > 0)
    }

    /// Reads the counts once more, after which [`Self::ticks_counted`] is as of now.
    pub(crate) fn read_counts(&mut self) {
        for event in self.events.iter_mut() {
            event.is_alive();
        }
    }

    /// Ticks that the descriptors counted on all CPUs, from the start to the last look: reading a count
    /// interrupts its CPU.
    pub(crate) fn ticks_counted(&self) -> u64 {
        let open_ns: u64 = self.events.iter().map(|event| event.counted_ns).sum();
        (open_ns + self.closed_ns) / self.period_ns
    }

    /// Ticks' worth of idle time since the start, by the kernel's idle accounting.
    pub(crate) fn ticks_idle(&self) -> u64 {
        idle_ns().saturating_sub(self.idle_at_start_ns) / self.period_ns
    }

    /// Stops the clock; counts stay readable.
    pub(crate) fn stop(&self) {
        for event in self.events.iter() {
            // SAFETY: an open perf event descriptor; a failure leaves it ticking until it is closed.
            unsafe { sys::ioctls::DISABLE(event.fd.as_raw_fd(), 0) };
        }
    }
}

impl Event {
    fn open(cpu: u32, period_ns: u64, program: &OwnedFd) -> Result<Self, Error> {
        let fd = open_event(cpu, period_ns)?;
        let attach = |result: i32, what: &str| {
            if result == 0 {
                return Ok(());
            }
            Err(Error::System { what: format!("{what} on CPU {cpu}"), source: io::Error::last_os_error() })
        };
        // SAFETY: both descriptors are open.
        let set = unsafe { sys::ioctls::SET_BPF(fd.as_raw_fd(), program.as_raw_fd() as _) };
        attach(set, "attach the sampler")?;
        // SAFETY: an open perf event descriptor.
        let enabled = unsafe { sys::ioctls::ENABLE(fd.as_raw_fd(), 0) };
        attach(enabled, "enable the clock")?;
        Ok(Self { fd, counted_ns: 0 })
    }
}

impl CpuEvent for Event {
    /// Reads the count: a live event counts time, also while its CPU idles.
    fn is_alive(&mut self) -> bool {
        let mut count = 0u64;
        // SAFETY: reads at most 8 bytes into a u64; with read_format 0 that is the whole answer.
        let got = unsafe { libc::read(self.fd.as_raw_fd(), (&raw mut count).cast(), mem::size_of::<u64>()) };
        if got != mem::size_of::<u64>() as isize {
            return false;
        }
        let advanced = count > self.counted_ns;
        self.counted_ns = count;
        advanced
    }
}

/// A disabled cpu-clock event for every process on one CPU.
fn open_event(cpu: u32, period_ns: u64) -> Result<OwnedFd, Error> {
    let mut attr = bindings::perf_event_attr {
        type_: bindings::PERF_TYPE_SOFTWARE,
        size: mem::size_of::<bindings::perf_event_attr>() as u32,
        config: u64::from(bindings::PERF_COUNT_SW_CPU_CLOCK),
        ..Default::default()
    };
    // A fixed period, not a frequency that the kernel adjusts: every sample is worth the same time.
    attr.__bindgen_anon_1.sample_period = period_ns;
    attr.set_disabled(1);
    online::open_event(&mut attr, cpu)
}

/// Idle and iowait time of all CPUs since boot; 0 when /proc/stat cannot be read.
fn idle_ns() -> u64 {
    let Ok(stat) = fs::read_to_string("/proc/stat") else {
        return 0;
    };
    let Some(line) = stat.lines().next() else {
        return 0;
    };
    // cpu user nice system idle iowait … (proc(5))
    let fields = line.split_ascii_whitespace().skip(4).take(2);
    fields.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>() * STAT_TICK_NS
}
