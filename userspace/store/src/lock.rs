//! The lock that keeps a second process out of the directory.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::Error;

const LOCK_FILE: &str = "lock";

/// Holds the lock until dropped; the kernel also lets go of it when the process dies.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    file: File,
}

impl DirectoryLock {
    /// Makes the directory where it is missing, readable for its owner alone, and locks it.
    pub(crate) fn acquire(directory: &Path) -> Result<Self, Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| Error::io("create the directory", directory, source))?;
        let path = directory.join(LOCK_FILE);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| Error::io("open the lock file", &path, source))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked { path: directory.to_owned() }),
            Err(TryLockError::Error(source)) => Err(Error::io("lock", &path, source)),
        }
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // A child between fork and exec still has the file open and would hold the lock; closing it tries again.
        let _unlocked = self.file.unlock();
    }
}
