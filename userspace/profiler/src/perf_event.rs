//! A perf event that counts nothing and tells of processes and executable mappings on one CPU, with its ring.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use perf_event_open_sys::bindings;

use crate::Error;
use crate::online::{self, CpuEvent};
use crate::records::{self, HEADER_BYTES, Record};

/// Wakes the reader from the first unread byte on: a library that takes another's place, of the same size, changes
/// no counter that a sample could be checked by. Whoever reads pauses between reads, so that a storm of records
/// does not wake it for each.
const WAKE_BYTES: u32 = 1;
/// The smallest ring that is tried.
const RING_BYTES_MIN: usize = 16 << 10;

/// One CPU's event.
#[derive(Debug)]
pub(crate) struct RecordEvent {
    ring: Ring,
    fd: OwnedFd,
    running_ns: u64,
}

/// The mapped ring: one page of positions, then the data (a power of two of bytes).
#[derive(Debug)]
struct Ring {
    pages: NonNull<bindings::perf_event_mmap_page>,
    page_bytes: usize,
    data_bytes: usize,
}

// SAFETY: the mapping belongs to this value alone and is not tied to a thread.
unsafe impl Send for Ring {}

impl RecordEvent {
    /// Opens the event; of rings from `ring_bytes` down, the largest that the kernel grants
    /// (kernel.perf_event_mlock_kb, memory).
    pub(crate) fn open(cpu: u32, ring_bytes: usize) -> Result<Self, Error> {
        let mut data_bytes = ring_bytes.next_power_of_two().max(RING_BYTES_MIN);
        loop {
            let fd = open_event(cpu)?;
            match Ring::map(&fd, data_bytes) {
                Ok(ring) => return Ok(Self { ring, fd, running_ns: 0 }),
                Err(error) if is_short_of_memory(&error) && data_bytes > RING_BYTES_MIN => data_bytes /= 2,
                Err(source) => {
                    let what = format!("map {data_bytes} bytes for the process records of CPU {cpu}");
                    return Err(Error::System { what, source });
                }
            }
        }
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Bytes of the ring's data.
    pub(crate) fn ring_bytes(&self) -> usize {
        self.ring.data_bytes
    }

    /// Takes out all records that are there; returns how many could not be decoded.
    pub(crate) fn read(&mut self, take: impl FnMut(Record)) -> u64 {
        self.ring.read(take)
    }
}

impl CpuEvent for RecordEvent {
    /// Reads how long the event was on its CPU; a detached one stands still.
    fn is_alive(&mut self) -> bool {
        // count, time running
        let mut answer = [0u64; 2];
        let bytes = size_of_val(&answer);
        // SAFETY: reads at most the array's bytes; with TOTAL_TIME_RUNNING that is the whole answer.
        let got = unsafe { libc::read(self.fd.as_raw_fd(), answer.as_mut_ptr().cast(), bytes) };
        let advanced = got == bytes as isize && answer[1] > self.running_ns;
        self.running_ns = answer[1];
        advanced
    }
}

impl Ring {
    fn map(fd: &OwnedFd, data_bytes: usize) -> io::Result<Self> {
        let page_bytes = page_bytes();
        // SAFETY: a new shared mapping of an open descriptor, at an address of the kernel's choice.
        let mapped = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                page_bytes + data_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(mapped.cast()) {
            Some(pages) if mapped != libc::MAP_FAILED => Ok(Self { pages, page_bytes, data_bytes }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The kernel moves the head forward behind what it wrote, the reader the tail behind what it read; both
    /// only ever grow (tools/include/linux/ring_buffer.h).
    fn positions(&self) -> (&AtomicU64, &AtomicU64) {
        // SAFETY: the page is mapped as long as this value lives, both fields are aligned u64, and the kernel
        // accesses them as whole words.
        unsafe {
            let pages = self.pages.as_ptr();
            (
                AtomicU64::from_ptr(&raw mut (*pages).data_head),
                AtomicU64::from_ptr(&raw mut (*pages).data_tail),
            )
        }
    }

    fn read(&mut self, mut take: impl FnMut(Record)) -> u64 {
        let (head, tail) = self.positions();
        let (head, from) = (head.load(Ordering::Acquire), tail.load(Ordering::Relaxed));
        let unread = head.wrapping_sub(from);
        let mut undecodable = 0;
        let mut record = Vec::new();
        let mut at = from;
        if unread > self.data_bytes as u64 {
            undecodable += 1;
            at = head;
        }
        while head.wrapping_sub(at) >= HEADER_BYTES as u64 {
            let mut header = [0; HEADER_BYTES];
            self.copy(at, &mut header);
            let bytes = usize::from(u16::from_ne_bytes([header[6], header[7]]));
            if bytes < HEADER_BYTES || bytes as u64 > head.wrapping_sub(at) {
                undecodable += 1;
                break;
            }
            record.resize(bytes, 0);
            self.copy(at, &mut record);
            match records::decode(&record) {
                Ok(decoded) => decoded.into_iter().for_each(&mut take),
                Err(records::Undecodable) => undecodable += 1,
            }
            at = at.wrapping_add(bytes as u64);
        }
        self.positions().1.store(head, Ordering::Release);
        undecodable
    }

    /// Copies what lies from a position on, around the ring's end.
    fn copy(&self, position: u64, into: &mut [u8]) {
        let at = position as usize & (self.data_bytes - 1);
        let first = into.len().min(self.data_bytes - at);
        // SAFETY: both parts lie inside the data, `into` is no longer than it (a record has at most 64 KiB and
        // is not longer than what is unread), and the kernel does not write there until the tail has moved.
        unsafe {
            let data = self.pages.as_ptr().cast::<u8>().add(self.page_bytes);
            std::ptr::copy_nonoverlapping(data.add(at), into.as_mut_ptr(), first);
            std::ptr::copy_nonoverlapping(data, into.as_mut_ptr().add(first), into.len() - first);
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the whole mapping made in `map`, used by nobody any more.
        unsafe { libc::munmap(self.pages.as_ptr().cast(), self.page_bytes + self.data_bytes) };
    }
}

/// Bytes of a page of memory.
pub(crate) fn page_bytes() -> usize {
    // SAFETY: sysconf takes no pointer.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(4096)
}

fn is_short_of_memory(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOMEM))
}

/// Executable mappings with device and inode, forks, execs and ends of every process while it runs on this
/// CPU. Not asked for by build id: that replaces the inode, and any file can claim any build id.
fn open_event(cpu: u32) -> Result<OwnedFd, Error> {
    let mut attr = bindings::perf_event_attr {
        type_: bindings::PERF_TYPE_SOFTWARE,
        size: size_of::<bindings::perf_event_attr>() as u32,
        config: u64::from(bindings::PERF_COUNT_SW_DUMMY),
        sample_type: u64::from(bindings::PERF_SAMPLE_TID | bindings::PERF_SAMPLE_TIME),
        read_format: u64::from(bindings::PERF_FORMAT_TOTAL_TIME_RUNNING),
        clockid: libc::CLOCK_MONOTONIC,
        ..Default::default()
    };
    attr.set_mmap(1);
    attr.set_mmap2(1);
    attr.set_comm(1);
    attr.set_comm_exec(1);
    attr.set_task(1);
    attr.set_sample_id_all(1);
    attr.set_use_clockid(1);
    attr.set_watermark(1);
    attr.__bindgen_anon_2.wakeup_watermark = WAKE_BYTES;
    online::open_event(&mut attr, cpu)
}
