//! What the kernel tells of processes and their mappings on all CPUs, in the order of time.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::Error;
use crate::online::PerCpu;
use crate::perf_event::RecordEvent;
use crate::records::{Body, Record};

/// Ring bytes of all CPUs together; shared out within the two limits below.
const RINGS_BYTES_MAX: usize = 8 << 20;
/// One CPU's ring; 655 bytes are one spawned process, and 512 KiB are what kernel.perf_event_mlock_kb allows.
const RING_BYTES_MAX: usize = 256 << 10;
const RING_BYTES_MIN: usize = 64 << 10;
/// A record younger than this may still be overtaken by an older one of another CPU.
pub(crate) const SETTLE_NS: u64 = 1_000_000;
/// Records that wait for their time to settle.
const HELD_MAX: usize = 65_536;
/// Rings whose wake-ups are taken at once.
const WAKES_MAX: usize = 64;

/// Reads the records of all CPUs.
#[derive(Debug)]
pub(crate) struct Recorder {
    events: PerCpu<RecordEvent>,
    ring_bytes: usize,
    /// Readable when some ring has records.
    epoll: OwnedFd,
    held: Vec<Record>,
    /// Records that found no room, by the kernel's count.
    pub(crate) lost: u64,
    /// Records that contradict themselves.
    pub(crate) undecodable: u64,
    /// Records read.
    pub(crate) read: u64,
    /// Records given before their time had settled, because too many were held.
    pub(crate) early: u64,
}

impl Recorder {
    /// Opens a ring on every online CPU.
    pub(crate) fn start(online: &[u32]) -> Result<Self, Error> {
        let ring_bytes = (RINGS_BYTES_MAX / online.len().max(1)).clamp(RING_BYTES_MIN, RING_BYTES_MAX);
        let system = |what: &str| Error::System { what: what.into(), source: io::Error::last_os_error() };
        // SAFETY: epoll_create1 takes no pointer.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if epoll < 0 {
            return Err(system("create an epoll descriptor"));
        }
        // SAFETY: a descriptor just returned, owned by nobody else.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        let events = PerCpu::open(online, |cpu| open(cpu, ring_bytes, &epoll))?;
        Ok(Self { events, ring_bytes, epoll, held: Vec::new(), lost: 0, undecodable: 0, read: 0, early: 0 })
    }

    /// Readable when some CPU's ring has records.
    pub(crate) fn fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    /// CPUs that are listened to now.
    pub(crate) fn cpus(&self) -> usize {
        self.events.len()
    }

    /// Bytes of all rings.
    pub(crate) fn bytes(&self) -> usize {
        self.events.iter().map(RecordEvent::ring_bytes).sum()
    }

    /// Records that were read and wait to be settled.
    pub(crate) fn unsettled(&self) -> &[Record] {
        &self.held
    }

    /// Gives all records up to a moment ago in the order of time. Returns that moment, CLOCK_MONOTONIC
    /// nanoseconds: what happened before it has been told.
    pub(crate) fn read(&mut self, apply: impl FnMut(Record)) -> u64 {
        self.take_wakes();
        let settled_ns = monotonic_ns().saturating_sub(SETTLE_NS);
        let Self { events, held, lost, undecodable, read, early, .. } = self;
        for event in events.iter_mut() {
            *undecodable += event.read(|record| {
                *read += 1;
                if let Body::Lost(count) = record.body {
                    *lost += count;
                }
                held.push(record);
            });
        }
        let settled = take_settled(held, settled_ns);
        *early += settled.iter().rev().take_while(|record| record.time_ns > settled_ns).count() as u64;
        settled.into_iter().for_each(apply);
        settled_ns
    }

    /// Opens rings on CPUs that came online. What happened there before is not known: that is told as a loss.
    pub(crate) fn follow_hotplug(&mut self, online: &[u32]) -> Result<(), Error> {
        let Self { events, ring_bytes, epoll, held, lost, undecodable, read, .. } = self;
        let mut last = Vec::new();
        let opened = events.follow(
            online,
            |cpu| open(cpu, *ring_bytes, epoll),
            |mut event| {
                *undecodable += event.read(|record| {
                    *read += 1;
                    if let Body::Lost(count) = record.body {
                        *lost += count;
                    }
                    last.push(record);
                });
            },
        );
        held.append(&mut last);
        if opened.as_ref().is_ok_and(|opened| *opened > 0) {
            held.push(Record { time_ns: monotonic_ns(), body: Body::Lost(0) });
        }
        opened.map(drop)
    }

    /// Lets the descriptor become unreadable until the next wake-up.
    fn take_wakes(&self) {
        let mut wakes = [libc::epoll_event { events: 0, u64: 0 }; WAKES_MAX];
        // SAFETY: the array has as many entries as are said; it does not wait.
        unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), wakes.as_mut_ptr(), WAKES_MAX as i32, 0) };
    }
}

/// CLOCK_MONOTONIC, nanoseconds: the clock of records and samples.
pub(crate) fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a complete timespec; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

fn open(cpu: u32, ring_bytes: usize, epoll: &OwnedFd) -> Result<RecordEvent, Error> {
    let event = RecordEvent::open(cpu, ring_bytes)?;
    // Edge-triggered: a ring whose CPU is gone would be readable for ever.
    let mut interest = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLET) as u32, u64: 0 };
    // SAFETY: both descriptors are open, the event is complete.
    let added =
        unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, event.fd(), &raw mut interest) };
    if added == 0 {
        return Ok(event);
    }
    Err(Error::System { what: format!("wait for CPU {cpu}'s records"), source: io::Error::last_os_error() })
}

/// Takes out the records up to `settled_ns`, and the oldest beyond [`HELD_MAX`], in the order of time; of
/// records of one moment, in the order they were read.
fn take_settled(held: &mut Vec<Record>, settled_ns: u64) -> Vec<Record> {
    held.sort_by_key(|record| record.time_ns);
    let settled = held.partition_point(|record| record.time_ns <= settled_ns);
    let rest = held.split_off(settled.max(held.len().saturating_sub(HELD_MAX)));
    std::mem::replace(held, rest)
}

#[cfg(test)]
mod tests;
