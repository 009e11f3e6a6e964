//! What a queue has counted, read at one moment.

use crate::log::Log;
use crate::{Count, Pending};

/// The counters of a queue; they only grow, except for `held_bytes`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    pub pushed: Count,
    /// Refused by `push` as larger than the whole queue.
    pub too_large: Count,
    /// What removed destinations had pending.
    pub removed: Count,
    /// Payload bytes in memory.
    pub held_bytes: u64,
    /// The limit of `held_bytes`.
    pub bytes_max: u64,
    /// Sorted by name.
    pub destinations: Vec<DestinationStats>,
}

/// The counters of one destination, from the moment it was added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DestinationStats {
    pub name: String,
    pub acknowledged: Count,
    /// Lost because the destination lagged more than the queue's limit.
    pub lost_to_lag: Count,
    pub pending: Pending,
}

impl Stats {
    pub(crate) fn of(log: &Log) -> Self {
        let destinations = log.destinations.iter().map(|(name, destination)| DestinationStats {
            name: name.clone(),
            acknowledged: destination.acknowledged,
            lost_to_lag: destination.lost,
            pending: destination.pending(),
        });
        Self {
            pushed: log.pushed,
            too_large: log.too_large,
            removed: log.removed,
            held_bytes: log.bytes(),
            bytes_max: log.bytes_max,
            destinations: destinations.collect(),
        }
    }
}
