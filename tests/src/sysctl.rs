//! A kernel setting changed for as long as a test needs it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// Restores the value that was there when it is dropped.
#[derive(Debug)]
pub struct Sysctl {
    path: PathBuf,
    before: String,
}

impl Sysctl {
    /// Sets a setting such as `kernel.kptr_restrict`.
    ///
    /// # Errors
    /// It does not exist, may not be written, or does not take the value.
    pub fn set(name: &str, value: &str) -> Result<Self> {
        let path = PathBuf::from("/proc/sys").join(name.replace('.', "/"));
        let error = || format!("sysctl {name}={value}");
        let before = fs::read_to_string(&path).with_context(error)?.trim().to_owned();
        fs::write(&path, value).with_context(error)?;
        let guard = Self { path, before };
        let now = fs::read_to_string(&guard.path).with_context(error)?;
        ensure!(now.trim() == value, "sysctl {name} is {} after it was set to {value}", now.trim());
        Ok(guard)
    }
}

impl Drop for Sysctl {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.path, &self.before) {
            complain(&format!("cannot restore {} to {}: {error}", self.path.display(), self.before));
        }
    }
}

#[allow(clippy::print_stderr, reason = "a destructor can only say what is left behind")]
fn complain(text: &str) {
    eprintln!("{text}");
}
