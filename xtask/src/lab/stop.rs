//! When a served server has to stop: standard input closed, a signal came, or the server ended by itself.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};

use crate::process::Server;

const POLL_TIMEOUT_MS: i32 = 200;

static TOLD_TO_STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_signal: libc::c_int) {
    TOLD_TO_STOP.store(true, Ordering::Relaxed);
}

/// From here on SIGTERM, SIGINT and SIGHUP no longer end this process: it stops its servers first.
/// (A handler and not a blocked signal: children would inherit the block.)
pub(crate) fn watch_signals() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { libc::signal(signal, note as *const () as libc::sighandler_t) };
    }
}

/// Whether a signal has asked for the end.
pub(crate) fn is_told() -> bool {
    TOLD_TO_STOP.load(Ordering::Relaxed)
}

/// # Errors
/// When the server ends before it is asked to.
pub(super) fn wait(server: &mut Server) -> Result<()> {
    while !is_told() && !is_input_closed() {
        if let Some(status) = server.exited() {
            bail!("the server ended by itself ({status})");
        }
    }
    Ok(())
}

fn is_input_closed() -> bool {
    let mut input = libc::pollfd { fd: libc::STDIN_FILENO, events: libc::POLLIN, revents: 0 };
    // SAFETY: the pointer is to one pollfd, as the count says.
    let ready = unsafe { libc::poll(&raw mut input, 1, POLL_TIMEOUT_MS) };
    if ready <= 0 {
        return false;
    }
    let mut byte = [0_u8; 64];
    io::Read::read(&mut io::stdin(), &mut byte).is_ok_and(|read| read == 0)
}
