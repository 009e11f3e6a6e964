//! The CPUs that are online, and one perf event on each of them, followed through hot-plug.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use perf_event_open_sys as sys;
use perf_event_open_sys::bindings;

use crate::Error;
use crate::host;

const ONLINE_PATH: &str = "/sys/devices/system/cpu/online";
/// Numbers of CPUs beyond any kernel's NR_CPUS are no list of CPUs.
const CPU_RANGE_MAX: u32 = 65_536;

/// A file of sysfs is never longer (fs/sysfs/file.c).
const TEXT_BYTES_MAX: usize = 4096;

/// The CPUs that are online, by a file that is kept open: opening it costs more than reading it.
#[derive(Debug)]
pub(crate) struct Online {
    file: File,
    text: Vec<u8>,
    cpus: Vec<u32>,
}

/// An event of one CPU.
pub(crate) trait CpuEvent {
    /// False when the event is dead: one whose CPU was offline in between stays detached for good
    /// (kernel/events/core.c, perf_event_exit_cpu_context).
    fn is_alive(&mut self) -> bool;
}

/// One event on every online CPU.
#[derive(Debug)]
pub(crate) struct PerCpu<E> {
    events: BTreeMap<u32, E>,
}

impl Online {
    /// # Errors
    /// The file cannot be read, or is no list.
    pub(crate) fn open() -> Result<Self, Error> {
        let file = File::open(ONLINE_PATH).map_err(unreadable)?;
        let mut online = Self { file, text: Vec::new(), cpus: Vec::new() };
        online.cpus()?;
        Ok(online)
    }

    /// Those of now.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn cpus(&mut self) -> Result<&[u32], Error> {
        let mut buffer = [0; TEXT_BYTES_MAX];
        let bytes = self.file.read_at(&mut buffer, 0).map_err(unreadable)?;
        let text = &buffer[..bytes];
        if self.text != text {
            let list = String::from_utf8_lossy(text);
            let list = list.trim();
            self.cpus = parse_cpu_list(list).ok_or_else(|| {
                Error::Kernel(format!("{ONLINE_PATH} holds {list:?}, which is not a list of CPUs"))
            })?;
            self.text = text.to_vec();
        }
        Ok(&self.cpus)
    }
}

impl<E: CpuEvent> PerCpu<E> {
    /// Opens an event on every one of these CPUs.
    pub(crate) fn open(cpus: &[u32], mut open: impl FnMut(u32) -> Result<E, Error>) -> Result<Self, Error> {
        let mut events = BTreeMap::new();
        for cpu in cpus {
            events.insert(*cpu, open(*cpu)?);
        }
        Ok(Self { events })
    }

    /// Takes out dead events and those of CPUs that are not `online`; opens events on CPUs that have none.
    /// Gives how many were opened, and the first error after having tried them all.
    pub(crate) fn follow(
        &mut self,
        online: &[u32],
        mut open: impl FnMut(u32) -> Result<E, Error>,
        mut closed: impl FnMut(E),
    ) -> Result<usize, Error> {
        let gone = self.events.extract_if(.., |cpu, event| !online.contains(cpu) || !event.is_alive());
        gone.for_each(|(_, event)| closed(event));
        let (mut opened, mut first_error) = (0, None);
        for cpu in online.iter().copied() {
            if self.events.contains_key(&cpu) {
                continue;
            }
            match open(cpu) {
                Ok(event) => {
                    self.events.insert(cpu, event);
                    opened += 1;
                }
                // A CPU can go again between the two looks: the next round finds out.
                Err(Error::System { source, .. }) if source.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        first_error.map_or(Ok(opened), Err)
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &E> {
        self.events.values()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut E> {
        self.events.values_mut()
    }
}

/// Opens an event for every process on one CPU.
pub(crate) fn open_event(attr: &mut bindings::perf_event_attr, cpu: u32) -> Result<OwnedFd, Error> {
    let flags = u64::from(bindings::PERF_FLAG_FD_CLOEXEC);
    // SAFETY: the attribute is complete and its size is its own; -1 means every process.
    let fd = unsafe { sys::perf_event_open(&raw mut *attr, -1, cpu as i32, -1, flags as _) };
    if fd < 0 {
        return Err(host::perf_open_error(io::Error::last_os_error(), cpu));
    }
    // SAFETY: a descriptor just returned, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn unreadable(source: io::Error) -> Error {
    Error::System { what: format!("read {ONLINE_PATH}"), source }
}

/// `0-3,8,10-11` as Documentation/admin-guide/cputopology.rst writes it.
fn parse_cpu_list(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if last < first || last - first > CPU_RANGE_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    struct Event {
        opened: usize,
        alive: bool,
    }

    impl CpuEvent for Event {
        fn is_alive(&mut self) -> bool {
            self.alive
        }
    }

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

    #[test]
    fn the_online_cpus_are_read_again_from_the_open_file() {
        let mut online = Online::open().unwrap();
        let cpus = online.cpus().unwrap().to_vec();
        assert!(!cpus.is_empty());
        online.text = b"77".to_vec();
        online.cpus = vec![77];
        assert_eq!(online.cpus().unwrap(), cpus);
    }

    #[test]
    fn a_dead_event_is_given_back_and_opened_again_and_the_others_stay() {
        let online = [0, 3];
        let mut per_cpu = PerCpu::open(&online, |_| Ok(Event { opened: 1, alive: true })).unwrap();
        let cpus = per_cpu.len();
        assert!(cpus > 0);
        per_cpu.iter_mut().take(1).for_each(|event| event.alive = false);
        let mut closed = Vec::new();
        let opened =
            per_cpu.follow(&online, |_| Ok(Event { opened: 2, alive: true }), |event| closed.push(event));
        assert_eq!((opened.unwrap(), per_cpu.len()), (1, cpus));
        assert_eq!(closed, [Event { opened: 1, alive: false }]);
        assert_eq!(per_cpu.iter().filter(|event| event.opened == 2).count(), 1);
    }

    #[test]
    fn a_cpu_that_goes_while_its_event_is_opened_is_no_error() {
        let mut per_cpu = PerCpu::open(&[0], |_| Ok(Event { opened: 1, alive: false })).unwrap();
        let gone =
            || Error::System { what: "open".into(), source: std::io::Error::from_raw_os_error(libc::ENODEV) };
        assert_eq!(per_cpu.follow(&[0], |_| Err(gone()), drop).unwrap(), 0);
        assert_eq!(per_cpu.len(), 0);
        assert!(per_cpu.follow(&[0], |_| Err(Error::Kernel("no".into())), drop).is_err());
    }
}
