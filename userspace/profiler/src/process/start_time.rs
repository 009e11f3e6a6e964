//! When a process began, to tell it from another one with the same id.

use crate::clock::STAT_TICK_NS;

/// A process id is not used again within a second.
const START_TOLERANCE_NS: u64 = 1_000_000_000;

/// Whether the process with this id began when the image did. /proc counts from boot in hundredths of a
/// second, the kernel's CLOCK_MONOTONIC leaves out suspended time (proc(5), field 22 of stat).
pub(super) fn started_at(pid: u32, start_time_ns: u64) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The name in parentheses may hold anything, also parentheses.
    let Some((_, fields)) = stat.rsplit_once(')') else {
        return false;
    };
    let Some(ticks) = fields.split_ascii_whitespace().nth(19).and_then(|field| field.parse::<u64>().ok())
    else {
        return false;
    };
    let started_ns = ticks.saturating_mul(STAT_TICK_NS);
    started_ns.abs_diff(start_time_ns.saturating_add(suspended_ns())) <= START_TOLERANCE_NS
}

/// What CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC now. A process older than a suspension seems younger by
/// it than /proc says; then its mappings are not believed.
pub(super) fn suspended_ns() -> u64 {
    let read = |clock| {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: a complete timespec; these clocks always exist.
        unsafe { libc::clock_gettime(clock, &raw mut time) };
        (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
    };
    let (monotonic, boot) = (read(libc::CLOCK_MONOTONIC), read(libc::CLOCK_BOOTTIME));
    boot.saturating_sub(monotonic)
}
