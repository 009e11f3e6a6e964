//! The sampling clock: one perf event per online CPU, followed through hot-plug, and its own account of ticks.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use perf_event_open_sys as sys;
use perf_event_open_sys::bindings;

use crate::Error;
use crate::host;

const ONLINE_PATH: &str = "/sys/devices/system/cpu/online";
const NANOSECONDS: u64 = 1_000_000_000;
/// `/proc/stat` counts in USER_HZ, 100 on every Linux architecture that BPF runs on.
pub(crate) const STAT_TICK_NS: u64 = NANOSECONDS / 100;

/// The clock of all CPUs.
#[derive(Debug)]
pub(crate) struct Clock {
    period_ns: u64,
    program: OwnedFd,
    events: BTreeMap<u32, Event>,
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
    pub(crate) fn start(rate_hz: u32, program: BorrowedFd<'_>) -> Result<Self, Error> {
        let program = program
            .try_clone_to_owned()
            .map_err(|source| Error::System { what: "duplicate the program's descriptor".into(), source })?;
        let mut clock = Self {
            period_ns: NANOSECONDS / u64::from(rate_hz),
            program,
            events: BTreeMap::new(),
            closed_ns: 0,
            idle_at_start_ns: idle_ns(),
        };
        for cpu in online_cpus()? {
            clock.open(cpu)?;
        }
        Ok(clock)
    }

    /// Whether an event can be opened at all; leaves nothing behind.
    pub(crate) fn probe() -> Result<(), Error> {
        let cpu = online_cpus()?.first().copied().unwrap_or(0);
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
    pub(crate) fn follow_hotplug(&mut self) -> Result<(), Error> {
        let online = online_cpus()?;
        let known: Vec<u32> = self.events.keys().copied().collect();
        for cpu in known {
            if !online.contains(&cpu) || !self.refresh(cpu) {
                self.close(cpu);
            }
        }
        let mut first_error = None;
        for cpu in online {
            if self.events.contains_key(&cpu) {
                continue;
            }
            match self.open(cpu) {
                Ok(()) => {}
                // A CPU can go again between the two reads: the next round finds out.
                Err(Error::System { source, .. }) if source.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Reads the counts once more, after which [`Self::ticks_counted`] is as of now.
    pub(crate) fn read_counts(&mut self) {
        let cpus: Vec<u32> = self.events.keys().copied().collect();
        for cpu in cpus {
            self.refresh(cpu);
        }
    }

    /// Ticks that the descriptors counted on all CPUs, from the start to the last look: reading a count
    /// interrupts its CPU.
    pub(crate) fn ticks_counted(&self) -> u64 {
        let open_ns: u64 = self.events.values().map(|event| event.counted_ns).sum();
        (open_ns + self.closed_ns) / self.period_ns
    }

    /// Ticks' worth of idle time since the start, by the kernel's idle accounting.
    pub(crate) fn ticks_idle(&self) -> u64 {
        idle_ns().saturating_sub(self.idle_at_start_ns) / self.period_ns
    }

    /// Stops the clock; counts stay readable.
    pub(crate) fn stop(&self) {
        for event in self.events.values() {
            // SAFETY: an open perf event descriptor; a failure leaves it ticking until it is closed.
            unsafe { sys::ioctls::DISABLE(event.fd.as_raw_fd(), 0) };
        }
    }

    fn open(&mut self, cpu: u32) -> Result<(), Error> {
        let fd = open_event(cpu, self.period_ns)?;
        let attach = |result: i32, what: &str| {
            if result == 0 {
                return Ok(());
            }
            Err(Error::System { what: format!("{what} on CPU {cpu}"), source: io::Error::last_os_error() })
        };
        // SAFETY: both descriptors are open.
        let set = unsafe { sys::ioctls::SET_BPF(fd.as_raw_fd(), self.program.as_raw_fd() as _) };
        attach(set, "attach the sampler")?;
        // SAFETY: an open perf event descriptor.
        let enabled = unsafe { sys::ioctls::ENABLE(fd.as_raw_fd(), 0) };
        attach(enabled, "enable the clock")?;
        self.events.insert(cpu, Event { fd, counted_ns: 0 });
        Ok(())
    }

    /// Reads the event's count; false when the event is dead.
    fn refresh(&mut self, cpu: u32) -> bool {
        let Some(event) = self.events.get_mut(&cpu) else {
            return false;
        };
        let mut count = 0u64;
        // SAFETY: reads at most 8 bytes into a u64; with read_format 0 that is the whole answer.
        let got = unsafe { libc::read(event.fd.as_raw_fd(), (&raw mut count).cast(), mem::size_of::<u64>()) };
        if got != mem::size_of::<u64>() as isize {
            return false;
        }
        // A live event counts time, also while its CPU idles. One whose CPU was offline in between stays
        // detached for good and shows its old count (kernel/events/core.c, perf_event_exit_cpu_context).
        let advanced = count > event.counted_ns;
        event.counted_ns = count;
        advanced
    }

    fn close(&mut self, cpu: u32) {
        if let Some(event) = self.events.remove(&cpu) {
            self.closed_ns += event.counted_ns;
        }
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
    // SAFETY: the attribute is complete and its size is its own; -1 means every process.
    let fd = unsafe {
        sys::perf_event_open(
            &raw mut attr,
            -1,
            cpu as i32,
            -1,
            u64::from(bindings::PERF_FLAG_FD_CLOEXEC) as _,
        )
    };
    if fd < 0 {
        return Err(host::perf_open_error(io::Error::last_os_error(), cpu));
    }
    // SAFETY: a descriptor just returned, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn online_cpus() -> Result<Vec<u32>, Error> {
    let text = fs::read_to_string(ONLINE_PATH)
        .map_err(|source| Error::System { what: format!("read {ONLINE_PATH}"), source })?;
    parse_cpu_list(&text).ok_or_else(|| {
        Error::Kernel(format!("{ONLINE_PATH} holds {:?}, which is not a list of CPUs", text.trim()))
    })
}

/// `0-3,8,10-11` as Documentation/admin-guide/cputopology.rst writes it.
fn parse_cpu_list(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if last < first || last - first > 65_536 {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_with_ranges_and_holes_are_read() {
        assert_eq!(parse_cpu_list("0-2,5,7-8\n"), Some(vec![0, 1, 2, 5, 7, 8]));
        assert_eq!(parse_cpu_list("0\n"), Some(vec![0]));
    }

    #[test]
    fn a_cpu_list_that_makes_no_sense_is_refused() {
        assert_eq!(parse_cpu_list("3-1"), None);
        assert_eq!(parse_cpu_list("a"), None);
        assert_eq!(parse_cpu_list("0-4294967295"), None);
    }
}
