//! The order to stop, as every task that serves or sends gets it.

use tokio::sync::watch;
use tokio::time::Instant;

/// `Some(deadline)` means end what is under way until then. A sender that has gone means at once.
pub type Shutdown = watch::Receiver<Option<Instant>>;

/// Waits for the order to stop and gives its deadline.
pub async fn stop_asked(shutdown: &mut Shutdown) -> Instant {
    match shutdown.wait_for(Option::is_some).await {
        Ok(deadline) => deadline.unwrap_or_else(Instant::now),
        Err(_) => Instant::now(),
    }
}
