//! Closes files on a thread of its own: some file systems are asked when a file is closed, and may not answer.

use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use symbolizer::Executable;

/// Batches that wait to be closed, and the one that is being closed. Files of further ones stay held.
const BATCHES_MAX: usize = 64;
/// At most 15 bytes.
const THREAD_NAME: &str = "close-files";

/// The thread, and how much it has to do.
#[derive(Debug, Default)]
pub(super) struct Closer {
    thread: Option<SyncSender<Batch>>,
    /// Each batch that is not closed yet has a copy.
    unclosed: Arc<()>,
}

/// Files to be closed together.
#[derive(Debug)]
struct Batch {
    files: Vec<File>,
    executables: Vec<Arc<Executable>>,
    unclosed: Arc<()>,
}

impl Closer {
    /// Whether a batch would be taken now.
    pub(super) fn is_ready(&mut self) -> bool {
        if self.thread.is_none() {
            self.thread = start();
        }
        self.thread.is_some() && Arc::strong_count(&self.unclosed) <= BATCHES_MAX
    }

    /// Closes files without waiting for it. When it is not ready their descriptors stay open for good.
    pub(super) fn close(&mut self, files: Vec<File>, executables: Vec<Arc<Executable>>) {
        let is_ready = self.is_ready();
        let batch = Batch { files, executables, unclosed: Arc::clone(&self.unclosed) };
        let refused = match &self.thread {
            Some(thread) if is_ready => thread.try_send(batch).err().map(|error| match error {
                TrySendError::Full(batch) | TrySendError::Disconnected(batch) => batch,
            }),
            _ => Some(batch),
        };
        if let Some(Batch { files, executables, unclosed: _ }) = refused {
            std::mem::forget((files, executables));
        }
    }
}

/// Nobody joins it: it ends when its sender is gone and everything is closed.
fn start() -> Option<SyncSender<Batch>> {
    let (sender, batches) = sync_channel(BATCHES_MAX);
    let started = thread::Builder::new().name(THREAD_NAME.into()).spawn(move || close_all(&batches));
    started.ok().map(|_| sender)
}

fn close_all(batches: &Receiver<Batch>) {
    for Batch { files, executables, unclosed } in batches {
        drop(files);
        drop(executables);
        drop(unclosed);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn files_are_closed_by_its_thread() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut closer = Closer::default();
        let writer = File::from(std::os::fd::OwnedFd::from(writer));
        closer.close(vec![writer], Vec::new());
        assert_eq!(reader.read(&mut [0]).unwrap(), 0, "the pipe's other end is closed");
    }

    #[test]
    fn no_more_is_taken_than_may_wait_until_something_is_closed() {
        // A thread that is stuck takes nothing.
        let (sender, batches) = sync_channel(BATCHES_MAX);
        let mut closer = Closer { thread: Some(sender), ..Closer::default() };
        for _ in 0..BATCHES_MAX {
            assert!(closer.is_ready());
            closer.close(Vec::new(), Vec::new());
        }
        assert!(!closer.is_ready());
        drop(batches.recv().unwrap());
        assert!(closer.is_ready());
    }
}
