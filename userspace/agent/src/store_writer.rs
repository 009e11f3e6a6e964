//! The embedded store as a destination like the others.

use queue::Record;
use sinks::{Reason, Sink, Verdict};
use std::path::PathBuf;
use store::Store;

/// Its name among the destinations; the configuration refuses it for others.
pub(crate) const NAME: &str = "store";

/// Appends each record to the store.
#[derive(Debug)]
pub(crate) struct StoreWriter {
    store: Store,
    path: PathBuf,
}

impl StoreWriter {
    pub(crate) fn new(store: Store, path: PathBuf) -> Self {
        Self { store, path }
    }
}

impl Sink for StoreWriter {
    fn name(&self) -> &str {
        NAME
    }

    fn kind(&self) -> &'static str {
        "store"
    }

    fn url(&self) -> String {
        self.path.display().to_string()
    }

    async fn send(&self, record: &Record) -> Verdict {
        let store = self.store.clone();
        let record = record.clone();
        let written =
            tokio::task::spawn_blocking(move || store.append(record.newest_unix_ms, &record.payload)).await;
        match written {
            Ok(Ok(())) => Verdict::Sent,
            Ok(Err(error @ store::Error::TooLarge { .. })) => {
                Verdict::Drop { reason: Reason::TooLarge, error: error.to_string() }
            }
            Ok(Err(error)) => Verdict::Retry { after: None, error: error.to_string() },
            Err(error) => {
                Verdict::Retry { after: None, error: format!("the write was interrupted: {error}") }
            }
        }
    }

    fn split(&self, _record: &Record) -> Option<(Record, Record)> {
        None
    }
}
