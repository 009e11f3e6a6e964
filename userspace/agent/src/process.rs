//! What the process asks of the system for itself.

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Heap arenas of the C library; each thread that finds the others busy makes one of its own otherwise, and memory
/// freed in one is not used by another.
#[cfg(target_env = "gnu")]
const HEAP_ARENAS_MAX: libc::c_int = 2;

/// Threads that run tasks.
const WORKERS: usize = 2;

/// Threads for the store's reads and writes and for files of secrets.
const BLOCKING_MAX: usize = 8;

/// Stack of each thread; only what is touched of it takes memory.
const STACK_BYTES: usize = 1 << 20;

/// Keeps the heap small where the C library has many arenas. Call it before there are threads.
pub(crate) fn limit_heap_arenas() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt only sets a number of the allocator.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, HEAP_ARENAS_MAX);
    }
}

/// The runtime of listeners and senders; the hot work is the kernel's, so that it can be small.
///
/// # Errors
/// The system's.
pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_MAX)
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()
        .context("start the runtime")
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Stop,
    Reload,
}

/// The signals the collector listens to.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// # Errors
    /// The system's.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listen to signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> Order {
        tokio::select! {
            _ = self.terminate.recv() => Order::Stop,
            _ = self.interrupt.recv() => Order::Stop,
            _ = self.hangup.recv() => Order::Reload,
        }
    }
}
