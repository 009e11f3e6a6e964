//! A queue's counters as metrics; the queue itself knows no metrics.

use model::Metric;
use queue::{Count, DestinationStats, Stats};

/// A destination lagged more than the queue can hold.
pub(crate) const REASON_LAG: &str = "lag";
/// A destination was taken out of the configuration.
const REASON_REMOVED: &str = "removed";
/// A record was larger than the whole queue.
const REASON_TOO_LARGE: &str = "too_large";

/// The metrics of the queue of one signal, labelled `signal`, `destination` and `reason`.
pub fn queue_metrics(stats: &Stats, signal: &str) -> Vec<Metric> {
    let mut all = vec![
        Metric::counter("kovar_queue_pushed_records_total", "Records pushed.", stats.pushed.records),
        Metric::counter("kovar_queue_pushed_items_total", "Items in records pushed.", stats.pushed.items),
        Metric::gauge("kovar_queue_held_bytes", "Payload bytes in memory.", stats.held_bytes as f64),
        Metric::gauge("kovar_queue_limit_bytes", "Most payload bytes in memory.", stats.bytes_max as f64),
    ];
    all.extend(counts(
        "kovar_queue_refused_records_total",
        "kovar_queue_refused_items_total",
        "Refused by the queue, by reason.",
        stats.too_large,
        &[("reason", REASON_TOO_LARGE)],
    ));
    // Under no destination's name, so that changes of the configuration do not add series for ever.
    all.extend(lost("", REASON_REMOVED, stats.removed));
    for destination in &stats.destinations {
        all.extend(of_destination(destination));
    }
    for metric in &mut all {
        metric.labels.insert(0, ("signal", signal.to_owned()));
    }
    all
}

fn of_destination(destination: &DestinationStats) -> Vec<Metric> {
    let name = destination.name.as_str();
    let pending = destination.pending;
    let gauge =
        |metric, help, value: u64| Metric::gauge(metric, help, value as f64).with("destination", name);
    let mut all = vec![
        gauge("kovar_queue_pending_records", "Records not acknowledged.", pending.records),
        gauge("kovar_queue_pending_items", "Items in records not acknowledged.", pending.items),
        gauge("kovar_queue_pending_bytes", "Payload bytes held for the destination.", pending.bytes),
    ];
    all.extend(counts(
        "kovar_queue_acknowledged_records_total",
        "kovar_queue_acknowledged_items_total",
        "Done with: sent, or refused for good.",
        destination.acknowledged,
        &[("destination", name)],
    ));
    all.extend(lost(name, REASON_LAG, destination.lost_to_lag));
    all
}

fn lost(destination: &str, reason: &str, count: Count) -> [Metric; 2] {
    counts(
        "kovar_queue_lost_records_total",
        "kovar_queue_lost_items_total",
        "Never handed out to the destination, by reason.",
        count,
        &[("destination", destination), ("reason", reason)],
    )
}

fn counts(
    records: &'static str,
    items: &'static str,
    help: &'static str,
    count: Count,
    labels: &[(&'static str, &str)],
) -> [Metric; 2] {
    [(records, count.records), (items, count.items)].map(|(name, value)| {
        let counter = Metric::counter(name, help, value);
        labels.iter().fold(counter, |metric, (label, value)| metric.with(label, *value))
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use queue::{Config, Queue, Record};

    use super::*;

    #[test]
    fn a_loss_is_told_with_its_destination_and_reason() {
        let queue = Queue::new(Config { bytes_max: 10 });
        let _cursor = queue.cursor("away").unwrap();
        for _ in 0..3 {
            let record = Record { items: 4, newest_unix_ms: 0, payload: Bytes::from_static(b"12345678") };
            queue.push(record).unwrap();
        }
        let metrics = queue_metrics(&queue.stats(), "profiles");
        let value = |name: &str, labels: &[(&'static str, &str)]| {
            let labels: Vec<_> = labels.iter().map(|(name, value)| (*name, value.to_string())).collect();
            let found: Vec<_> = metrics.iter().filter(|m| m.name == name && m.labels == labels).collect();
            assert_eq!(found.len(), 1, "{name} {labels:?} in {metrics:#?}");
            found[0].value
        };
        let lag = [("signal", "profiles"), ("destination", "away"), ("reason", "lag")];
        assert_eq!(value("kovar_queue_lost_records_total", &lag), 2.0);
        assert_eq!(value("kovar_queue_lost_items_total", &lag), 8.0);
        assert_eq!(value("kovar_queue_held_bytes", &lag[..1]), 8.0);
        assert_eq!(value("kovar_queue_pending_items", &lag[..2]), 4.0);
    }
}
