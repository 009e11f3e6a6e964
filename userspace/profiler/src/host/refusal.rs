//! The kernel's refusals, put in words that name the cause and the way out.

use std::fs;
use std::io;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;

use super::charges_memlock;
use crate::Error;

/// Lines of a verifier's log that go into an error; the last ones say why.
const VERIFIER_LINES_MAX: usize = 20;

/// Why a perf event could not be opened on a CPU.
pub(crate) fn perf_open_error(source: io::Error, cpu: u32) -> Error {
    match source.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => {
            let level = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
            Error::Privilege(format!(
                "the kernel refuses to sample CPU {cpu} (perf_event_open: {source}): kernel.perf_event_paranoid is {}; \
                 CAP_PERFMON is enough up to 2, distributions' levels 3 and 4 want CAP_SYS_ADMIN; \
                 give the capability or run sysctl kernel.perf_event_paranoid=2",
                level.trim()
            ))
        }
        Some(libc::EMFILE) => Error::Privilege(format!(
            "no file descriptor left for CPU {cpu}: raise the open files limit (ulimit -n, LimitNOFILE=)"
        )),
        _ => Error::System { what: format!("open the clock of CPU {cpu} (perf_event_open)"), source },
    }
}

/// Why the object could not be loaded.
pub(crate) fn load_error(error: EbpfError) -> Error {
    match error {
        EbpfError::MapError(MapError::CreateError { name, io_error }) => {
            map_refused(&format!("create the map {name}"), io_error)
        }
        EbpfError::ProgramError(error) => program_error(error),
        other => Error::Kernel(format!("load the sampler: {}", chain(&other))),
    }
}

/// Why a program could not be loaded.
pub(crate) fn program_error(error: ProgramError) -> Error {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(VERIFIER_LINES_MAX)..].join("\n");
            if log.contains("unknown func bpf_probe_read") {
                return Error::Kernel(format!(
                    "the kernel is locked down (lockdown=confidentiality) and forbids reading its memory: \
                     boot with lockdown=integrity or none; the verifier says: {tail}"
                ));
            }
            if io_error.kind() == io::ErrorKind::PermissionDenied && log.is_empty() {
                return map_refused("load the sampler", io_error);
            }
            Error::Kernel(format!("the kernel's verifier refuses the sampler ({io_error}): {tail}"))
        }
        other => Error::Kernel(format!("load the sampler: {}", chain(&other))),
    }
}

fn map_refused(what: &str, source: io::Error) -> Error {
    if source.kind() == io::ErrorKind::PermissionDenied {
        return Error::Privilege(if charges_memlock() {
            format!(
                "{what}: {source}: kernels before 5.11 charge BPF maps to RLIMIT_MEMLOCK: \
                 give CAP_SYS_RESOURCE, or raise the limit before the start (ulimit -l unlimited, LimitMEMLOCK=infinity)"
            )
        } else {
            format!("{what}: {source}: give CAP_BPF and CAP_PERFMON, or run as root")
        });
    }
    Error::System { what: what.to_owned(), source }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let source_text = source.to_string();
        if !text.contains(&source_text) {
            text = format!("{text}: {source_text}");
        }
        next = source.source();
    }
    text
}
