//! One build at a time: two processes that need the same server meet here.

use std::fs::{self, File, TryLockError};

use anyhow::{Context, Result};

use crate::workspace;

/// Held until it is dropped, by this process or by its end.
#[derive(Debug)]
pub(crate) struct BuildLock {
    _file: File,
}

impl BuildLock {
    pub(crate) fn take(name: &str) -> Result<Self> {
        let lab = workspace::lab();
        fs::create_dir_all(&lab).with_context(|| lab.display().to_string())?;
        let path = lab.join(format!("{name}.lock"));
        let file = File::create(&path).with_context(|| path.display().to_string())?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                eprintln!("waiting for another process that prepares {name} ({})", path.display());
                file.lock().with_context(|| path.display().to_string())?;
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(|| path.display().to_string()),
        }
        Ok(Self { _file: file })
    }
}
