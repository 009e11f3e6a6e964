//! The thread around the resolver: reading a large file takes long, and nobody else should wait for it.

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::config::Config;
use crate::query::{Frame, Query, Reason, Resolved};
use crate::resolver::Resolver;
use crate::stats::Stats;

/// Nested debug information is read recursively; untouched stack takes no memory.
const STACK_BYTES: usize = 16 * 1024 * 1024;

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
    pub fn completed(&self, wait: Duration) -> Vec<Answer> {
        let Some(answers) = &self.answers else { return Vec::new() };
        let answers = lock(answers);
        let mut taken: Vec<Answer> = answers.recv_timeout(wait).into_iter().collect();
        if !taken.is_empty() {
            taken.extend(answers.try_iter());
        }
        taken.into_iter().map(|(token, resolved)| (token, copied(&resolved))).collect()
    }

    /// As of the last job done.
    pub fn metrics(&self) -> Stats {
        Stats { queue_full: *lock(&self.queue_full), ..*lock(&self.shared) }
    }
}

impl Drop for Symbolizer {
    /// Jobs still queued are dropped; the one being worked on is finished first.
    fn drop(&mut self) {
        self.jobs = None;
        self.answers = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
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
