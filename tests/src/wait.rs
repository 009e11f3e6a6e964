//! Waits for conditions, with a limit.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Tries again and again until `attempt` gives something.
///
/// # Errors
/// Those of `attempt` at once, or the limit, naming `what`.
pub fn until<T>(what: &str, limit: Duration, mut attempt: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = attempt()? {
            return Ok(value);
        }
        if start.elapsed() > limit {
            bail!("{what}: not within {} s", limit.as_secs_f32());
        }
        thread::sleep(POLL_INTERVAL);
    }
}
