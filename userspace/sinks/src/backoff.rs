//! How long to wait between attempts: exponential with full jitter, no limit on their number.

use std::time::Duration;

/// The waits' bounds. The configuration of destinations does not expose them: they are the ones
/// that Pyroscope's and Loki's own clients use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffConfig {
    /// Upper bound of the first wait; each later one's is twice as long. Default 500 ms.
    pub initial: Duration,
    /// Upper bound of every wait that the destination did not ask for. Default 5 min.
    pub max: Duration,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self { initial: Duration::from_millis(500), max: Duration::from_secs(5 * 60) }
    }
}

/// The waits of one destination.
#[derive(Debug)]
pub(crate) struct Backoff {
    config: BackoffConfig,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(config: BackoffConfig) -> Self {
        Self { config, failures: 0 }
    }

    /// Whether the last attempt failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait after one more failure. A wait that the destination asked for is kept, with a
    /// little on top so that not every client comes back in the same moment.
    pub(crate) fn after_failure(&mut self, asked: Option<Duration>) -> Duration {
        let doubled = self.config.initial.saturating_mul(2u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1);
        match asked {
            Some(asked) if !asked.is_zero() => asked + up_to(self.config.initial),
            _ => up_to(doubled.min(self.config.max)),
        }
    }
}

fn up_to(bound: Duration) -> Duration {
    bound.mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: BackoffConfig =
        BackoffConfig { initial: Duration::from_millis(500), max: Duration::from_secs(300) };

    #[test]
    fn bounds_double_up_to_the_maximum_and_start_again_after_a_success() {
        let mut longest = [Duration::ZERO; 14];
        for _ in 0..2000 {
            let mut backoff = Backoff::new(CONFIG);
            for longest in &mut longest {
                *longest = backoff.after_failure(None).max(*longest);
            }
        }
        for (failures, longest) in longest.iter().enumerate() {
            let bound = (CONFIG.initial * (1 << failures)).min(CONFIG.max);
            assert!(*longest <= bound, "{longest:?} after {failures} failures");
            assert!(*longest > bound.mul_f64(0.9), "{longest:?} after {failures} failures: no spread");
        }
        let mut backoff = Backoff::new(CONFIG);
        for _ in 0..100 {
            backoff.after_failure(None);
        }
        assert!(backoff.is_failing());
        backoff.reset();
        assert!(!backoff.is_failing());
        assert!(backoff.after_failure(None) <= CONFIG.initial);
    }

    #[test]
    fn a_wait_that_was_asked_for_is_kept_whatever_failed_before() {
        let mut backoff = Backoff::new(CONFIG);
        for _ in 0..100 {
            let wait = backoff.after_failure(Some(Duration::from_secs(7)));
            assert!(wait >= Duration::from_secs(7) && wait <= Duration::from_millis(7500), "{wait:?}");
        }
    }

    #[test]
    fn being_asked_to_wait_for_nothing_does_not_make_a_busy_loop() {
        let mut backoff = Backoff::new(CONFIG);
        let total: Duration = (0..12).map(|_| backoff.after_failure(Some(Duration::ZERO))).sum();
        assert!(total > Duration::from_secs(1), "{total:?}");
    }
}
