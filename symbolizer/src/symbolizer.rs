//! The thread around the resolver: reading a large file takes long, and nobody else should wait for it.

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::query::{Frame, Query, Reason, Resolved};
use crate::resolver::Resolver;
use crate::stats::Stats;

/// Nested debug information is read recursively; untouched stack takes no memory.
const STACK_BYTES: usize = 16 * 1024 * 1024;
/// A thread still at work then, on a file system that does not answer, is left to itself.
const END_WAIT_MAX: Duration = Duration::from_secs(2);
const END_POLL_INTERVAL: Duration = Duration::from_millis(5);

type Job = (u64, Vec<Query>);
type Answer = (u64, Vec<Resolved>);

/// The queue is full, or the job larger than [`Config::job_addresses_max`]. Gives the job back.
#[derive(Debug, thiserror::Error)]
#[error("the symbolizer is busy")]
pub struct Full {
    pub queries: Vec<Query>,
}

/// The OS thread `symbolizer` and the queues to and from it.
#[derive(Debug)]
pub struct Symbolizer {
    jobs: Option<SyncSender<Job>>,
    answers: Option<Mutex<Receiver<Answer>>>,
    shared: Arc<Mutex<Stats>>,
    queue_full: Mutex<u64>,
    job_addresses_max: usize,
    thread: Option<JoinHandle<()>>,
}

impl Symbolizer {
    /// # Errors
    /// When the thread cannot be started.
    pub fn spawn(config: Config) -> io::Result<Self> {
        let capacity = config.queue_jobs_max.max(1);
        let (jobs, jobs_in) = sync_channel(capacity);
        let (answers_out, answers) = sync_channel(capacity);
        let shared = Arc::new(Mutex::new(Stats::default()));
        let job_addresses_max = config.job_addresses_max;
        let stats = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("symbolizer".into())
            .stack_size(STACK_BYTES)
            .spawn(move || run(&config, &jobs_in, &answers_out, &stats))?;
        Ok(Self {
            jobs: Some(jobs),
            answers: Some(Mutex::new(answers)),
            shared,
            queue_full: Mutex::new(0),
            job_addresses_max,
            thread: Some(thread),
        })
    }

    /// Queues a job; never waits. `token` comes back with its answer.
    ///
    /// # Errors
    /// [`Full`]: try again after the next [`Self::completed`], or give up these addresses.
    pub fn submit(&self, token: u64, queries: Vec<Query>) -> Result<(), Full> {
        let refused = match &self.jobs {
            Some(jobs) if queries.len() <= self.job_addresses_max => {
                jobs.try_send((token, queries)).err().map(|error| match error {
                    std::sync::mpsc::TrySendError::Full((_, queries))
                    | std::sync::mpsc::TrySendError::Disconnected((_, queries)) => queries,
                })
            }
            _ => Some(queries),
        };
        let Some(queries) = refused else { return Ok(()) };
        *lock(&self.queue_full) += 1;
        Err(Full { queries })
    }

    /// Waits at most `wait` for the first answer, then takes all that is there, in the order of the jobs.
    /// Waits `wait` out when the thread has ended, so that callers in a loop do not spin: see [`Self::is_alive`].
    pub fn completed(&self, wait: Duration) -> Vec<Answer> {
        let Some(answers) = &self.answers else { return Vec::new() };
        let deadline = Instant::now() + wait;
        let answers = lock(answers);
        let mut taken = match answers.recv_timeout(wait) {
            Ok(answer) => vec![answer],
            Err(RecvTimeoutError::Timeout) => return Vec::new(),
            Err(RecvTimeoutError::Disconnected) => {
                drop(answers);
                thread::sleep(deadline.saturating_duration_since(Instant::now()));
                return Vec::new();
            }
        };
        taken.extend(answers.try_iter());
        taken.into_iter().map(|(token, resolved)| (token, copied(&resolved))).collect()
    }

    /// Whether the thread runs; when it does not, no job is taken any more.
    pub fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// As of the last job done.
    pub fn metrics(&self) -> Stats {
        let thread_alive_now = u64::from(self.is_alive());
        Stats { thread_alive_now, queue_full: *lock(&self.queue_full), ..*lock(&self.shared) }
    }
}

impl Drop for Symbolizer {
    /// Jobs still queued are dropped; the one being worked on is waited for, 2 s at most.
    fn drop(&mut self) {
        self.jobs = None;
        self.answers = None;
        let Some(thread) = self.thread.take() else { return };
        let deadline = Instant::now() + END_WAIT_MAX;
        while !thread.is_finished() && Instant::now() < deadline {
            thread::sleep(END_POLL_INTERVAL);
        }
        if !thread.is_finished() {
            tracing::warn!("the symbolizer thread is still at work and left to itself");
        } else if thread.join().is_err() {
            tracing::error!("the symbolizer thread panicked");
        }
    }
}

fn run(config: &Config, jobs: &Receiver<Job>, answers: &SyncSender<Answer>, shared: &Mutex<Stats>) {
    let mut resolver = Resolver::new(config);
    let idle = Duration::from_millis(config.cache_idle_ms.max(1));
    loop {
        match jobs.recv_timeout(idle) {
            Ok((token, queries)) => {
                let resolved = catch_unwind(AssertUnwindSafe(|| resolver.resolve(&queries)));
                let resolved = resolved.unwrap_or_else(|_| {
                    tracing::error!("the resolver panicked; it starts anew");
                    resolver = Resolver::new(config);
                    queries.iter().map(|_| Err(Reason::Panicked)).collect()
                });
                *lock(shared) = resolver.stats();
                if answers.send((token, resolved)).is_err() {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                resolver.evict_idle();
                *lock(shared) = resolver.stats();
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// The same answers in memory allocated by the calling thread. glibc gives each thread its own pages: names that
/// callers keep for good would hold the pages between which debug information was read and let go, 15 times
/// their own size as measured.
fn copied(resolved: &[Resolved]) -> Vec<Resolved> {
    let mut texts = HashMap::<*const u8, Arc<str>>::new();
    let mut text = |original: &Arc<str>| {
        Arc::clone(texts.entry(original.as_ptr()).or_insert_with(|| Arc::from(&**original)))
    };
    let mut frame = |frame: &Frame| Frame {
        name: text(&frame.name),
        file: frame.file.as_ref().map(&mut text),
        line: frame.line,
        start_line: frame.start_line,
    };
    let frames = |answer: &Resolved| match answer {
        Ok(frames) => Ok(frames.iter().map(&mut frame).collect()),
        Err(reason) => Err(*reason),
    };
    resolved.iter().map(frames).collect()
}

/// A counter is as good after a panic as before.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;

    #[test]
    fn a_thread_that_ended_is_seen_and_does_not_make_callers_spin() {
        let mut symbolizer = Symbolizer::spawn(Config::default()).unwrap();
        assert!(symbolizer.is_alive());
        assert_eq!(symbolizer.metrics().thread_alive_now, 1);
        // Ends the thread from outside: only the sender it waits for is gone.
        symbolizer.jobs = None;
        let deadline = Instant::now() + Duration::from_secs(30);
        while symbolizer.is_alive() && Instant::now() < deadline {
            thread::yield_now();
        }
        assert_eq!(symbolizer.metrics().thread_alive_now, 0);
        let (start, wait) = (Instant::now(), Duration::from_millis(50));
        assert!(symbolizer.completed(wait).is_empty());
        assert!(start.elapsed() >= wait);
        assert!(symbolizer.submit(1, Vec::new()).is_err());
    }

    #[test]
    fn dropping_does_not_wait_for_a_read_that_never_ends() {
        let proc = tempfile::tempdir().unwrap();
        let stat = proc.path().join("1/stat");
        fs::create_dir(proc.path().join("1")).unwrap();
        let path = std::ffi::CString::new(stat.to_str().unwrap()).unwrap();
        // SAFETY: a NUL-terminated path.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
        let config = Config { proc: proc.path().into(), ..Config::default() };
        let symbolizer = Symbolizer::spawn(config).unwrap();
        symbolizer.submit(1, vec![Query::Jit { pid: 1, address: 1 }]).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        // Succeeds once the thread has opened the fifo, which then reads for as long as the writer is held.
        let writer = loop {
            match OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&stat) {
                Ok(writer) => break writer,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            thread::yield_now();
        };
        let shared = Arc::downgrade(&symbolizer.shared);
        let (dropped, done) = sync_channel(1);
        let dropping = thread::spawn(move || {
            drop(symbolizer);
            dropped.send(()).unwrap();
        });
        let in_time = done.recv_timeout(END_WAIT_MAX + Duration::from_secs(20));
        let still_reading = shared.strong_count() == 1;
        drop(writer);
        dropping.join().unwrap();
        while shared.strong_count() > 0 && Instant::now() < deadline + Duration::from_secs(30) {
            thread::yield_now();
        }
        assert!(in_time.is_ok() && still_reading);
        assert_eq!(shared.strong_count(), 0, "the thread left to itself ends when it can");
    }
}
