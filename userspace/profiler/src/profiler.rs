//! The running profiler: a thread that drains the kernel's counts and pushes profiles.

mod samples;
mod session;
mod snapshot;
mod ticks;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use model::{Metric, ProfileBatch};

use crate::metrics::{self, Figures};
use crate::{Config, Error, host};
use session::Session;
pub use snapshot::Progress;
use snapshot::Snapshot;
pub use ticks::Ticks;

/// Where profiles go; implemented by whoever wires the stages together.
pub trait Output: Send {
    /// Whether somebody looks at the unfinished interval right now.
    fn live_wanted(&self) -> bool;
    /// The unfinished interval so far; replaces the one given before.
    fn live(&self, batch: ProfileBatch);
    /// A finished interval; returns how many of its samples were taken.
    fn push(&self, batch: ProfileBatch) -> u64;
    /// The container id in a cgroup path, when there is one.
    fn container_id(&self, cgroup_path: &str) -> Option<String>;
}

/// A running profiler; dropping it stops the sampling.
#[derive(Debug)]
pub struct Profiler {
    snapshot: Arc<Mutex<Snapshot>>,
    stop: File,
    thread: Option<JoinHandle<()>>,
}

impl Profiler {
    /// Loads the kernel programs, attaches them to every CPU and starts draining.
    ///
    /// # Errors
    /// A missing privilege or kernel feature, named with the way out.
    pub fn start(config: Config, output: Box<dyn Output>) -> Result<Self, Error> {
        host::require()?;
        host::raise_file_limit();
        let stop = event_fd().map_err(|source| Error::System { what: "create an eventfd".into(), source })?;
        let wake = stop
            .try_clone()
            .map_err(|source| Error::System { what: "duplicate an eventfd".into(), source })?;
        let snapshot = Arc::new(Mutex::new(Snapshot::default()));
        let mut session = Session::start(config, output, Arc::clone(&snapshot))?;
        let thread = std::thread::Builder::new()
            .name("profiler".into())
            .spawn(move || session.run(wake.as_raw_fd()))
            .map_err(|source| Error::System { what: "start the profiler's thread".into(), source })?;
        Ok(Self { snapshot, stop, thread: Some(thread) })
    }

    /// The profiler's own metrics: as of the last drain when they were read shortly before, else as of the last push.
    pub fn metrics(&self) -> Vec<Metric> {
        self.figures(metrics::collect)
    }

    /// What is wrong, if anything.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn health(&self) -> Result<(), String> {
        if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            return Err("the profiler's thread has ended".to_owned());
        }
        self.locked().problem.clone().map_or(Ok(()), Err)
    }

    /// Where the ticks went since the start; as fresh as [`Self::metrics`].
    pub fn ticks(&self) -> Ticks {
        self.figures(|figures| figures.ticks.clone())
    }

    /// What must grow while the profiler works, as of the last drain.
    pub fn progress(&self) -> Progress {
        self.locked().progress
    }

    /// Stops sampling, pushes the last interval and returns the final account.
    pub fn stop(mut self) -> Ticks {
        self.end();
        self.ticks()
    }

    fn end(&mut self) {
        // An eventfd takes a write unless its counter is at its limit, which wakes the thread just as well.
        let _already_woken = self.stop.write(&1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the profiler's thread panicked; the last interval is lost");
        }
    }

    fn figures<T: Default>(&self, read: impl FnOnce(&Figures) -> T) -> T {
        let mut snapshot = self.locked();
        snapshot.read = true;
        snapshot.figures.as_deref().map(read).unwrap_or_default()
    }

    fn locked(&self) -> MutexGuard<'_, Snapshot> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Profiler {
    fn drop(&mut self) {
        self.end();
    }
}

pub(crate) fn event_fd() -> io::Result<File> {
    // SAFETY: takes no pointer; the descriptor it returns is owned by nobody else.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor just returned, owned by nobody else.
    Ok(unsafe { File::from_raw_fd(fd) })
}
