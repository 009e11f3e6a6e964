//! Tests of the module `outlet`.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use queue::{Config, Count};
use tokio::sync::watch;

use super::*;
use crate::OutletState;

const DEFAULT: BackoffConfig =
    BackoffConfig { initial: Duration::from_millis(500), max: Duration::from_secs(300) };

type Attempts = Arc<Mutex<Vec<(Instant, Bytes)>>>;

/// Takes bytes as series: each record can be halved down to one byte, and has an item a byte.
struct Scripted<F> {
    name: &'static str,
    attempts: Attempts,
    /// What becomes of the attempt with this number and payload.
    script: F,
    takes: Duration,
}

impl<F: Fn(usize, &[u8]) -> Verdict + Send + Sync> Sink for Scripted<F> {
    fn name(&self) -> &str {
        self.name
    }

    fn kind(&self) -> &'static str {
        "scripted"
    }

    fn url(&self) -> String {
        "http://scripted".to_owned()
    }

    async fn send(&self, record: &Record) -> Verdict {
        let number = {
            let mut attempts = self.attempts.lock().unwrap();
            attempts.push((Instant::now(), record.payload.clone()));
            attempts.len() - 1
        };
        sleep(self.takes).await;
        (self.script)(number, &record.payload)
    }

    fn split(&self, record: &Record) -> Option<(Record, Record)> {
        let bytes = &record.payload;
        let half = |part: Bytes| Record { items: part.len() as u32, newest_unix_ms: 0, payload: part };
        let middle = bytes.len() / 2;
        (middle > 0).then(|| (half(bytes.slice(..middle)), half(bytes.slice(middle..))))
    }
}

fn sink<F: Fn(usize, &[u8]) -> Verdict>(name: &'static str, script: F) -> (Scripted<F>, Attempts) {
    let attempts = Attempts::default();
    let takes = Duration::ZERO;
    (Scripted { name, attempts: Arc::clone(&attempts), script, takes }, attempts)
}

fn retry() -> Verdict {
    Verdict::Retry { after: None, error: "away".to_owned() }
}

fn queue(bytes_max: u64) -> Queue {
    Queue::new(Config { bytes_max })
}

fn push(queue: &Queue, payload: &'static [u8]) {
    let payload = Bytes::from_static(payload);
    queue.push(Record { items: payload.len() as u32, newest_unix_ms: 0, payload }).unwrap();
}

fn payloads(attempts: &Attempts) -> Vec<Bytes> {
    attempts.lock().unwrap().iter().map(|(_, payload)| payload.clone()).collect()
}

async fn soon_drained(queue: &Queue) {
    assert!(queue.drained(Instant::now() + Duration::from_secs(24 * 3600)).await);
}

#[tokio::test(start_paused = true)]
async fn a_failed_record_is_resent_byte_for_byte_until_it_is_taken() {
    let queue = queue(1000);
    let (sink, attempts) = sink("a", |n, _| if n < 25 { retry() } else { Verdict::Sent });
    let outlet = Outlet::new(sink, &queue, DEFAULT).unwrap();
    let handle = outlet.handle();
    let (_stop, shutdown) = watch::channel(None);
    let task = tokio::spawn(outlet.run(shutdown));
    push(&queue, b"one");
    push(&queue, b"three");
    soon_drained(&queue).await;
    let sent = payloads(&attempts);
    assert_eq!(sent.len(), 27, "no limit on attempts");
    assert!(sent[..26].iter().all(|payload| payload == "one"));
    assert_eq!(sent[26], "three");
    let status = handle.status();
    assert_eq!(status.sent, Count { records: 2, items: 8 });
    assert_eq!(status.state, OutletState::Working);
    assert_eq!(status.last_error.as_deref(), Some("away"));
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn the_status_says_since_when_and_why_a_destination_fails() {
    let queue = queue(1000);
    let (sink, attempts) = sink("a", |_, _| retry());
    let outlet = Outlet::new(sink, &queue, DEFAULT).unwrap();
    let handle = outlet.handle();
    assert_eq!(handle.status().state, OutletState::Working);
    let (_stop, shutdown) = watch::channel(None);
    let task = tokio::spawn(outlet.run(shutdown));
    push(&queue, b"four");
    while attempts.lock().unwrap().len() < 3 {
        sleep(Duration::from_millis(1)).await;
    }
    let status = handle.status();
    let OutletState::Retrying { since_unix_ms, last_error } = status.state else { panic!("{status:?}") };
    assert!(since_unix_ms > 1_700_000_000_000 && last_error == "away");
    assert_eq!((status.pending.records, status.pending.items), (1, 4));
    let retrying = handle.metrics().into_iter().find(|m| m.name == "kovar_outlet_retrying").unwrap();
    assert_eq!(retrying.value, 1.0);
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_the_destination_asks_for_is_kept() {
    let queue = queue(1000);
    let asked = Duration::from_secs(40);
    let (sink, attempts) = sink("a", move |n, _| match n {
        0 => Verdict::Retry { after: Some(asked), error: "busy".to_owned() },
        _ => Verdict::Sent,
    });
    let (_stop, shutdown) = watch::channel(None);
    let task = tokio::spawn(Outlet::new(sink, &queue, DEFAULT).unwrap().run(shutdown));
    push(&queue, b"x");
    soon_drained(&queue).await;
    let attempts = attempts.lock().unwrap();
    let waited = attempts[1].0 - attempts[0].0;
    assert!(waited >= asked && waited < asked + Duration::from_secs(1), "{waited:?}");
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_too_large_record_is_halved_until_it_fits_and_what_cannot_be_halved_is_dropped() {
    let queue = queue(1000);
    let (sink, attempts) = sink("a", |n, payload| match payload {
        _ if n == 3 => retry(),
        _ if payload.len() > 2 || payload == b"!" => Verdict::Split { error: "HTTP 413".to_owned() },
        _ => Verdict::Sent,
    });
    let outlet = Outlet::new(sink, &queue, DEFAULT).unwrap();
    let handle = outlet.handle();
    let (_stop, shutdown) = watch::channel(None);
    let task = tokio::spawn(outlet.run(shutdown));
    push(&queue, b"abcdefgh");
    push(&queue, b"!");
    push(&queue, b"z");
    soon_drained(&queue).await;
    let expected = ["abcdefgh", "abcd", "ab", "cd", "cd", "efgh", "ef", "gh", "!", "z"];
    assert_eq!(payloads(&attempts), expected);
    let status = handle.status();
    assert_eq!(status.sent, Count { records: 5, items: 9 });
    let dropped = [("rejected", 0), ("too_large", 1), ("lag", 0)];
    assert_eq!(status.dropped.iter().map(|(reason, c)| (*reason, c.items)).collect::<Vec<_>>(), dropped);
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_refused_record_is_counted_with_its_reason_and_the_next_one_sent() {
    let queue = queue(1000);
    let (sink, attempts) = sink("a", |n, _| match n {
        0 => Verdict::Drop { reason: Reason::Rejected, error: "HTTP 400: no".to_owned() },
        _ => Verdict::Sent,
    });
    let outlet = Outlet::new(sink, &queue, DEFAULT).unwrap();
    let handle = outlet.handle();
    let (_stop, shutdown) = watch::channel(None);
    let task = tokio::spawn(outlet.run(shutdown));
    push(&queue, b"bad");
    push(&queue, b"good");
    soon_drained(&queue).await;
    assert_eq!(payloads(&attempts), ["bad", "good"]);
    let status = handle.status();
    assert_eq!(status.dropped[0], ("rejected", Count { records: 1, items: 3 }));
    assert_eq!(status.drops_unix_ms, None, "one was taken since");
    assert_eq!(status.last_error.as_deref(), Some("HTTP 400: no"));
    let counted = handle.metrics().into_iter().find(|metric| {
        metric.name == "kovar_outlet_dropped_items_total"
            && metric.labels == [("destination", "a".to_owned()), ("reason", "rejected".to_owned())]
    });
    assert_eq!(counted.unwrap().value, 3.0);
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_dead_destination_costs_another_one_nothing() {
    let queue = queue(10);
    let (dead, dead_attempts) = sink("dead", |_, _| retry());
    let (alive, alive_attempts) = sink("alive", |_, _| Verdict::Sent);
    let dead = Outlet::new(dead, &queue, DEFAULT).unwrap();
    let alive = Outlet::new(alive, &queue, DEFAULT).unwrap();
    let (dead_handle, alive_handle) = (dead.handle(), alive.handle());
    let (_stop, shutdown) = watch::channel(None);
    let tasks = [tokio::spawn(dead.run(shutdown.clone())), tokio::spawn(alive.run(shutdown))];
    let started = Instant::now();
    for round in 1..=100 {
        push(&queue, b"12345");
        while alive_handle.status().sent.records < round {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(started, Instant::now(), "no time had to pass");
    assert_eq!(alive_attempts.lock().unwrap().len(), 100);
    assert_eq!(alive_handle.status().dropped.iter().map(|(_, c)| c.records).sum::<u64>(), 0);
    // It holds two records; of the rest all are counted but the one it was trying.
    while dead_attempts.lock().unwrap().len() < 3 {
        sleep(Duration::from_millis(1)).await;
    }
    let status = dead_handle.status();
    assert_eq!(status.pending.records, 2);
    assert_eq!(status.dropped[2], ("lag", Count { records: 98, items: 490 }));
    for task in tasks {
        task.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn stopping_sends_what_is_pending() {
    let queue = queue(1000);
    let (mut sink, attempts) = sink("a", |n, _| if n == 2 { retry() } else { Verdict::Sent });
    sink.takes = Duration::from_secs(1);
    let outlet = Outlet::new(sink, &queue, DEFAULT).unwrap();
    let handle = outlet.handle();
    for payload in [b"a", b"b", b"c"] {
        push(&queue, payload);
    }
    let (stop, shutdown) = watch::channel(None);
    let task = tokio::spawn(outlet.run(shutdown));
    while attempts.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    stop.send(Some(Instant::now() + Duration::from_secs(30))).unwrap();
    task.await.unwrap();
    assert_eq!(payloads(&attempts), ["a", "b", "c", "c"], "nothing is sent twice because of the stop");
    let status = handle.status();
    assert_eq!((status.state, status.pending.records), (OutletState::Stopped, 0));
}

#[tokio::test(start_paused = true)]
async fn a_long_wait_between_attempts_does_not_hold_up_the_stop() {
    let queue = queue(1000);
    let (sink, attempts) =
        sink("a", |_, _| Verdict::Retry { after: Some(Duration::from_secs(300)), error: "busy".to_owned() });
    let outlet = Outlet::new(sink, &queue, DEFAULT).unwrap();
    let handle = outlet.handle();
    push(&queue, b"a");
    let (stop, shutdown) = watch::channel(None);
    let task = tokio::spawn(outlet.run(shutdown));
    while !matches!(handle.status().state, OutletState::Retrying { .. }) {
        tokio::task::yield_now().await;
    }
    let asked = Instant::now();
    stop.send(Some(asked + Duration::from_secs(10))).unwrap();
    task.await.unwrap();
    assert_eq!(Instant::now(), asked, "it was failing: one last attempt, no more waits");
    assert_eq!(attempts.lock().unwrap().len(), 2);
    assert_eq!(handle.status().pending.records, 1);
    assert_eq!(handle.status().state, OutletState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_hangs_ends_with_the_grace_period() {
    let queue = queue(1000);
    let (mut sink, attempts) = sink("a", |_, _| Verdict::Sent);
    sink.takes = Duration::from_secs(3600);
    let outlet = Outlet::new(sink, &queue, DEFAULT).unwrap();
    push(&queue, b"a");
    let (stop, shutdown) = watch::channel(None);
    let task = tokio::spawn(outlet.run(shutdown));
    while attempts.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    stop.send(Some(deadline)).unwrap();
    task.await.unwrap();
    assert_eq!(Instant::now(), deadline);
    assert_eq!(attempts.lock().unwrap().len(), 1);
    assert_eq!(queue.pending("a").unwrap().records, 1);
}

#[tokio::test(start_paused = true)]
async fn an_idle_outlet_stops_at_once_also_when_nobody_can_tell_it_any_more() {
    for tell in [true, false] {
        let queue = queue(1000);
        let (sink, _) = sink("a", |_, _| Verdict::Sent);
        let (stop, shutdown) = watch::channel(None);
        let task = tokio::spawn(Outlet::new(sink, &queue, DEFAULT).unwrap().run(shutdown));
        let asked = Instant::now();
        if tell {
            stop.send(Some(asked + Duration::from_secs(10))).unwrap();
        }
        drop(stop);
        task.await.unwrap();
        assert_eq!(Instant::now(), asked);
    }
}
