//! Touches files on threads of its own: a file system that stops answering takes its thread with it, not its caller.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use crate::mapping::FileKey;

/// Threads that may wait for a file at once without end.
pub(super) const THREADS_STUCK_MAX: usize = 4;
/// Work that waits for its thread: its caller waits too, so there is never more.
const WORK_QUEUED_MAX: usize = 1;
/// At most 15 bytes.
const THREAD_NAME: &str = "open-executable";

type Work = Box<dyn FnOnce() + Send>;

/// One thread that works, and those that did not answer in time.
#[derive(Debug)]
pub(super) struct Opener {
    /// How long an answer is waited for.
    pub(super) wait: Duration,
    idle: Option<SyncSender<Work>>,
    stuck: Vec<Stuck>,
    /// The file that is worked on.
    pub(super) inode: Option<FileKey>,
    /// Times no answer came in time, or none was waited for because too many threads are stuck.
    pub(super) slow: u64,
}

/// A thread in work that took too long.
#[derive(Debug)]
struct Stuck {
    thread: SyncSender<Work>,
    /// Gone when the work is done.
    working: Weak<()>,
    inode: Option<FileKey>,
}

impl Opener {
    pub(super) fn new(wait: Duration) -> Self {
        Self { wait, idle: None, stuck: Vec::new(), inode: None, slow: 0 }
    }

    /// What the work gives; `None` when it takes too long, cannot be begun or panics. A late answer is thrown
    /// away where it comes up.
    pub(super) fn run<T: Send + 'static>(&mut self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        // Without room for an answer that nobody takes: closing its file may wait as well.
        self.run_with(0, work).ok()
    }

    /// As [`Self::run`]; when it takes too long, where the answer will come.
    pub(super) fn run_or_later<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Option<Receiver<T>>> {
        self.run_with(1, work)
    }

    fn run_with<T: Send + 'static>(
        &mut self,
        room: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Option<Receiver<T>>> {
        let Some(thread) = self.thread() else {
            self.slow += 1;
            return Err(None);
        };
        let (answer, answered) = sync_channel(room);
        let token = Arc::new(());
        let working = Arc::downgrade(&token);
        let job = move || {
            let _token = token;
            let _too_late = answer.send(work());
        };
        // Fails only when the thread has ended: a fresh one is started for the next.
        if thread.send(Box::new(job)).is_err() {
            return Err(None);
        }
        match answered.recv_timeout(self.wait) {
            Ok(given) => {
                self.idle = Some(thread);
                Ok(given)
            }
            Err(RecvTimeoutError::Disconnected) => {
                self.idle = Some(thread);
                Err(None)
            }
            Err(RecvTimeoutError::Timeout) => {
                self.slow += 1;
                self.stuck.push(Stuck { thread, working, inode: self.inode });
                Err(Some(answered))
            }
        }
    }

    /// Whether a thread still works on this file: to ask another one would only take that away too.
    pub(super) fn is_stuck_on(&self, inode: FileKey) -> bool {
        self.stuck.iter().any(|stuck| stuck.inode == Some(inode) && stuck.working.strong_count() > 0)
    }

    /// A thread that waits for work; `None` when too many are stuck or the system gives none.
    fn thread(&mut self) -> Option<SyncSender<Work>> {
        for answered in self.stuck.extract_if(.., |stuck| stuck.working.strong_count() == 0) {
            self.idle.get_or_insert(answered.thread);
        }
        if self.stuck.len() >= THREADS_STUCK_MAX {
            return None;
        }
        self.idle.take().or_else(start)
    }
}

/// Nobody joins it: it ends when its sender is gone and its work is done.
fn start() -> Option<SyncSender<Work>> {
    let (sender, queue) = sync_channel(WORK_QUEUED_MAX);
    let started = thread::Builder::new().name(THREAD_NAME.into()).spawn(move || work_off(&queue));
    started.ok().map(|_| sender)
}

fn work_off(queue: &Receiver<Work>) {
    for work in queue {
        // Its caller is told by the channel that ends with it.
        let _panicked = catch_unwind(AssertUnwindSafe(work));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const WAIT: Duration = Duration::from_millis(20);
    /// More than a machine under load needs to run one job.
    const PLENTY: Duration = Duration::from_secs(60);

    /// Begins work that ends when the sender it gives is dropped.
    fn hang(opener: &mut Opener) -> SyncSender<()> {
        let (release, held) = sync_channel::<()>(0);
        let wait = std::mem::replace(&mut opener.wait, WAIT);
        assert_eq!(opener.run(move || held.recv().is_err()), None);
        opener.wait = wait;
        release
    }

    /// Until it works again.
    fn retry(opener: &mut Opener) {
        let begun = Instant::now();
        while opener.run(|| ()).is_none() {
            assert!(begun.elapsed() < PLENTY, "it never works again");
            thread::yield_now();
        }
    }

    #[test]
    fn work_runs_on_one_named_thread() {
        let mut opener = Opener::new(PLENTY);
        let who = || (thread::current().id(), thread::current().name().map(str::to_owned));
        let first = opener.run(who).unwrap();
        assert_eq!(first.1.as_deref(), Some(THREAD_NAME));
        assert_ne!(first.0, thread::current().id());
        assert_eq!(opener.run(who).unwrap(), first);
    }

    #[test]
    fn work_that_hangs_holds_up_neither_its_caller_nor_the_next() {
        let mut opener = Opener::new(PLENTY);
        let begun = Instant::now();
        let _held = hang(&mut opener);
        assert!(begun.elapsed() < PLENTY, "it is held until the test ends");
        assert_eq!((opener.run(|| 7), opener.slow, opener.stuck.len()), (Some(7), 1, 1));
    }

    #[test]
    fn when_too_many_hang_nothing_is_begun_until_one_of_them_answers() {
        let mut opener = Opener::new(PLENTY);
        let mut held: Vec<_> = (0..THREADS_STUCK_MAX).map(|_| hang(&mut opener)).collect();
        let (began, beginning) = sync_channel(1);
        assert_eq!(opener.run(move || began.send(())), None);
        assert!(beginning.recv().is_err(), "it was never begun");
        assert_eq!(opener.slow, THREADS_STUCK_MAX as u64 + 1);
        held.pop();
        retry(&mut opener);
        assert_eq!(opener.stuck.len(), THREADS_STUCK_MAX - 1);
        assert_eq!(opener.run(|| 7), Some(7));
    }

    #[test]
    fn a_late_answer_is_thrown_away_by_its_own_thread() {
        struct Answer(SyncSender<thread::ThreadId>);
        impl Drop for Answer {
            fn drop(&mut self) {
                let _nobody_asks = self.0.send(thread::current().id());
            }
        }
        let mut opener = Opener::new(WAIT);
        let ((release, held), (dropped, dropping)) = (sync_channel::<()>(0), sync_channel(1));
        let late = opener.run(move || {
            let _ended = held.recv();
            Answer(dropped)
        });
        assert!(late.is_none());
        drop(release);
        assert_ne!(dropping.recv_timeout(PLENTY).unwrap(), thread::current().id());
    }

    #[test]
    fn work_that_panics_gives_nothing_and_its_thread_goes_on() {
        let mut opener = Opener::new(PLENTY);
        let panicked: Option<()> = opener.run(|| panic!("a file that does harm"));
        assert_eq!((panicked, opener.run(|| 7), opener.slow), (None, Some(7), 0));
    }

    #[test]
    fn an_opener_ends_without_waiting_for_a_thread_that_is_stuck() {
        let (mut opener, begun) = (Opener::new(PLENTY), Instant::now());
        let held = hang(&mut opener);
        drop(opener);
        assert!(begun.elapsed() < PLENTY);
        drop(held);
    }
}
