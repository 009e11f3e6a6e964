//! Survives reading a mapped file that was truncated meanwhile: the missing page becomes zeros, which the
//! reader meets as a parse error, and is counted.

use std::cell::Cell;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

static SURVIVED: AtomicU64 = AtomicU64::new(0);
static PAGE_BYTES: AtomicUsize = AtomicUsize::new(0);
static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();

thread_local! {
    // Const and without a destructor, so that the signal handler may touch it.
    static SURVIVED_HERE: Cell<u64> = const { Cell::new(0) };
}

/// Installs the handler for the whole process; further calls do nothing.
///
/// The page put in place is read-only: a program that writes to a page that is not there still ends, now with
/// SIGSEGV.
///
/// # Errors
/// What `sigaction(2)` says.
pub fn install() -> io::Result<()> {
    INSTALLED.get_or_init(set_handler).map_err(io::Error::from_raw_os_error)
}

/// Pages replaced with zeros since the start, in all threads.
pub fn survived() -> u64 {
    SURVIVED.load(Ordering::Relaxed)
}

/// Pages replaced with zeros in the calling thread.
pub(crate) fn survived_here() -> u64 {
    SURVIVED_HERE.get()
}

fn set_handler() -> Result<(), i32> {
    // SAFETY: sysconf takes no pointer.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    PAGE_BYTES.store(usize::try_from(page_bytes).unwrap_or(4096), Ordering::Relaxed);
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_sigbus;
    // SAFETY: all zeros is a valid sigaction, completed below; `handler` has the signature of SA_SIGINFO and
    // calls only what signal-safety(7) allows.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&raw mut action.sa_mask);
        libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL)) }
}

extern "C" fn on_sigbus(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo to an SA_SIGINFO handler, and BUS_ADRERR sets its address;
    // errno belongs to this thread and is put back.
    unsafe {
        let errno = *libc::__errno_location();
        if (*info).si_code == libc::BUS_ADRERR && put_zero_page((*info).si_addr() as usize) {
            SURVIVED.fetch_add(1, Ordering::Relaxed);
            SURVIVED_HERE.set(SURVIVED_HERE.get() + 1);
        } else {
            // The faulting instruction runs again and then ends the process in the ordinary way.
            libc::signal(libc::SIGBUS, libc::SIG_DFL);
        }
        *libc::__errno_location() = errno;
    }
}

/// mmap(2) is not on POSIX's list of async-signal-safe functions, but on Linux it is a bare system call.
fn put_zero_page(address: usize) -> bool {
    let page_bytes = PAGE_BYTES.load(Ordering::Relaxed);
    let page = address & !(page_bytes - 1);
    // SAFETY: the page is part of a file mapping whose file ends before it, so that no value in it can be
    // lost; everybody who reads it gets zeros in place of the signal.
    let mapped = unsafe {
        libc::mmap(
            page as *mut libc::c_void,
            page_bytes,
            libc::PROT_READ,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    mapped != libc::MAP_FAILED
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_file_truncated_under_its_mapping_reads_as_zeros() {
        install().unwrap();
        let page = PAGE_BYTES.load(Ordering::Relaxed);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; 3 * page]).unwrap();
        // SAFETY: a new private mapping of three pages that the file has, read below and unmapped at the end.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                3 * page,
                libc::PROT_READ,
                libc::MAP_PRIVATE,
                file.as_raw_fd(),
                0,
            )
        };
        assert_ne!(start, libc::MAP_FAILED);
        // SAFETY: within the mapping above.
        let read = |offset: usize| unsafe { start.cast::<u8>().add(offset).read_volatile() };
        assert_eq!(read(2 * page), 7);
        file.set_len(page as u64).unwrap();
        let before = (survived(), survived_here());
        assert_eq!(read(2 * page + 5), 0);
        assert_eq!(read(page), 0);
        assert_eq!(read(0), 7, "the part that is left stays");
        assert!(survived() >= before.0 + 2);
        assert_eq!(survived_here(), before.1 + 2);
        // SAFETY: the mapping above, not used again.
        assert_eq!(unsafe { libc::munmap(start, 3 * page) }, 0);
    }
}
