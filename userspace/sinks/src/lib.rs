//! Where signals go out: encode, send, verdict.
//!
//! A [`Sink`] sends one record and says what became of it; an [`Outlet`] is everything around that,
//! written once for all sinks: the cursor in the queue, splitting, waiting between attempts, the
//! status that the UI shows, and the end within a grace period. Each outlet is a task of its own
//! with its own cursor, so that one destination's outage never slows another.
//!
//! For each outlet, in items: `handed out by the queue = sent + dropped + still pending`.

mod backoff;
mod outlet;
mod pyroscope;
mod queue_metrics;
mod sink;
mod status;

pub use backoff::BackoffConfig;
pub use outlet::Outlet;
pub use pyroscope::{Pyroscope, PyroscopeConfig};
pub use queue_metrics::queue_metrics;
pub use sink::{Reason, Sink, Verdict};
pub use status::{OutletHandle, OutletState, OutletStatus};
