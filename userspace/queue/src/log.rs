//! The records themselves and every destination's position in them; no locks, no waiting.

use std::collections::{BTreeMap, VecDeque};

use crate::destination::{Count, Destination};
use crate::{Error, Record, Seq};

/// Most records one destination may lag behind, whatever their size: bounds what empty ones cost.
pub const RECORDS_MAX: u64 = 65_536;

#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) bytes_max: u64,
    /// The records `head - records.len() + 1 ..= head`.
    records: VecDeque<Record>,
    /// Payload bytes of `records`.
    bytes: u64,
    head: Seq,
    pub(crate) destinations: BTreeMap<String, Destination>,
    pub(crate) pushed: Count,
    pub(crate) too_large: Count,
    /// Lost by destinations that have been removed, so that the total never shrinks.
    pub(crate) removed: Count,
}

impl Log {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            records: VecDeque::new(),
            bytes: 0,
            head: Seq::START,
            destinations: BTreeMap::new(),
            pushed: Count::default(),
            too_large: Count::default(),
            removed: Count::default(),
        }
    }

    pub(crate) fn push(&mut self, record: Record) -> Result<Seq, Error> {
        let payload_bytes = record.payload_bytes();
        if payload_bytes > self.bytes_max {
            self.too_large.add(record.items);
            return Err(Error::TooLarge { payload_bytes, bytes_max: self.bytes_max });
        }
        self.pushed.add(record.items);
        self.head.0 += 1;
        self.bytes += payload_bytes;
        for destination in self.destinations.values_mut() {
            destination.pushed(&record);
        }
        self.records.push_back(record);
        self.shed_lag();
        self.forget_passed();
        Ok(self.head)
    }

    /// Hands out the oldest record `name` has not acknowledged or lost.
    pub(crate) fn next(&mut self, name: &str) -> Option<(Seq, Record)> {
        let seq = Seq(self.destinations.get(name)?.floor().0 + 1);
        let record = self.get(seq)?.clone();
        self.destinations.get_mut(name)?.handed_out(&record);
        Some((seq, record))
    }

    /// False when `seq` is not the record `name` has in flight.
    pub(crate) fn ack(&mut self, name: &str, seq: Seq) -> bool {
        let record = self.get(seq).cloned();
        let Some(destination) = self.destinations.get_mut(name) else { return false };
        if !destination.is_in_flight(seq) {
            return false;
        }
        destination.acknowledged(record.as_ref());
        self.forget_passed();
        true
    }

    pub(crate) fn settle(&mut self, name: &str, seq: Seq, items: u32) {
        if let Some(destination) = self.destinations.get_mut(name)
            && destination.is_in_flight(seq)
        {
            destination.settled(items);
        }
    }

    pub(crate) fn attach(&mut self, name: &str) -> Result<(), Error> {
        let head = self.head;
        let destination = self.destinations.entry(name.to_owned()).or_insert_with(|| Destination::at(head));
        if destination.attached {
            return Err(Error::CursorInUse(name.to_owned()));
        }
        destination.attached = true;
        Ok(())
    }

    pub(crate) fn detach(&mut self, name: &str) {
        if let Some(destination) = self.destinations.get_mut(name) {
            destination.detached();
        }
    }

    /// Forgets a destination without a cursor; what it had not acknowledged is lost.
    pub(crate) fn remove(&mut self, name: &str) -> Result<(), Error> {
        match self.destinations.get(name) {
            Some(destination) if destination.attached => Err(Error::CursorInUse(name.to_owned())),
            Some(destination) => {
                let pending = destination.pending();
                self.removed.records += pending.records;
                self.removed.items += pending.items;
                self.destinations.remove(name);
                self.forget_passed();
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// What every destination has acknowledged or lost; the head when there is no destination.
    pub(crate) fn delivered(&self) -> Seq {
        self.destinations.values().map(Destination::delivered).min().unwrap_or(self.head)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Every destination with a live cursor has nothing left.
    pub(crate) fn is_drained(&self) -> bool {
        self.destinations.values().filter(|d| d.attached).all(|d| d.pending().records == 0)
    }

    fn get(&self, seq: Seq) -> Option<&Record> {
        let oldest = self.head.0 + 1 - self.records.len() as u64;
        self.records.get(usize::try_from(seq.0.checked_sub(oldest)?).ok()?)
    }

    fn shed_lag(&mut self) {
        let oldest = self.head.0 + 1 - self.records.len() as u64;
        for destination in self.destinations.values_mut() {
            while destination.held_bytes() > self.bytes_max || destination.held_records() > RECORDS_MAX {
                let index = usize::try_from(destination.floor().0 + 1 - oldest).ok();
                let Some(record) = index.and_then(|index| self.records.get(index)) else { break };
                destination.overrun(record);
            }
        }
    }

    /// Frees the records that every destination has passed.
    fn forget_passed(&mut self) {
        let floor = self.destinations.values().map(Destination::floor).min().unwrap_or(self.head);
        let keep = self.head.0 - floor.0;
        while self.records.len() as u64 > keep {
            let Some(record) = self.records.pop_front() else { break };
            self.bytes -= record.payload_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    const BYTES_MAX: u64 = 100;
    const NAMES: [&str; 3] = ["a", "b", "c"];

    #[derive(Debug, Clone)]
    enum Step {
        Push {
            items: u32,
            bytes: usize,
        },
        Next {
            destination: usize,
        },
        Ack {
            destination: usize,
        },
        /// An acknowledgement of something that is not in flight.
        StrayAck {
            destination: usize,
            seq: u64,
        },
        Settle {
            destination: usize,
            items: u32,
        },
        /// The cursor goes and comes back, as at a reload.
        Reattach {
            destination: usize,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        let destination = 0..NAMES.len();
        prop_oneof![
            4 => (0u32..5, 0usize..120).prop_map(|(items, bytes)| Step::Push { items, bytes }),
            3 => destination.clone().prop_map(|destination| Step::Next { destination }),
            3 => destination.clone().prop_map(|destination| Step::Ack { destination }),
            1 => (destination.clone(), 0u64..60)
                .prop_map(|(destination, seq)| Step::StrayAck { destination, seq }),
            1 => (destination.clone(), 0u32..5)
                .prop_map(|(destination, items)| Step::Settle { destination, items }),
            1 => destination.prop_map(|destination| Step::Reattach { destination }),
        ]
    }

    fn record(items: u32, bytes: usize, fill: u64) -> Record {
        Record { items, newest_unix_ms: 0, payload: Bytes::from(vec![fill as u8; bytes]) }
    }

    /// What one destination should see, kept apart from the code under test.
    #[derive(Default)]
    struct Seen {
        in_flight: Option<Seq>,
        newest: Seq,
        acknowledged: BTreeSet<Seq>,
        acknowledged_items: u64,
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn whatever_the_interleaving_nothing_is_lost_uncounted_or_comes_twice(
            steps in proptest::collection::vec(step(), 1..60),
        ) {
            let mut log = Log::new(BYTES_MAX);
            let mut pushed: Vec<Record> = Vec::new();
            let mut seen: [Seen; NAMES.len()] = Default::default();
            for name in NAMES {
                log.attach(name).unwrap();
            }
            for step in steps {
                let delivered_before = log.delivered();
                match step {
                    Step::Push { items, bytes } => {
                        let record = record(items, bytes, pushed.len() as u64);
                        match log.push(record.clone()) {
                            Ok(seq) => {
                                pushed.push(record);
                                prop_assert_eq!(seq.get(), pushed.len() as u64);
                            }
                            Err(_) => prop_assert!(bytes as u64 > BYTES_MAX),
                        }
                    }
                    Step::Next { destination } => {
                        let seen = &mut seen[destination];
                        if let Some((seq, record)) = log.next(NAMES[destination]) {
                            prop_assert_eq!(&record, &pushed[seq.get() as usize - 1], "not the bytes pushed");
                            prop_assert!(!seen.acknowledged.contains(&seq), "{} came again after its ack", seq);
                            prop_assert!(seq >= seen.newest, "{} after {}", seq, seen.newest);
                            seen.newest = seq;
                            seen.in_flight = Some(seq);
                        }
                    }
                    Step::Ack { destination } => {
                        let seen = &mut seen[destination];
                        if let Some(seq) = seen.in_flight.take() {
                            prop_assert!(log.ack(NAMES[destination], seq));
                            seen.acknowledged.insert(seq);
                            seen.acknowledged_items += u64::from(pushed[seq.get() as usize - 1].items);
                        }
                    }
                    Step::StrayAck { destination, seq } => {
                        if seen[destination].in_flight != Some(Seq(seq)) {
                            prop_assert!(!log.ack(NAMES[destination], Seq(seq)));
                        }
                    }
                    Step::Settle { destination, items } => {
                        if let Some(seq) = seen[destination].in_flight {
                            log.settle(NAMES[destination], seq, items);
                        }
                    }
                    Step::Reattach { destination } => {
                        log.detach(NAMES[destination]);
                        log.attach(NAMES[destination]).unwrap();
                        seen[destination].in_flight = None;
                    }
                }
                let items: u64 = pushed.iter().map(|record| u64::from(record.items)).sum();
                prop_assert!(log.bytes() <= BYTES_MAX, "{} bytes held", log.bytes());
                prop_assert!(log.delivered() >= delivered_before);
                for (name, seen) in NAMES.iter().zip(&seen) {
                    let destination = &log.destinations[*name];
                    let (acknowledged, lost, pending) =
                        (destination.acknowledged, destination.lost, destination.pending());
                    prop_assert_eq!(acknowledged.records + lost.records + pending.records, pushed.len() as u64);
                    prop_assert_eq!(acknowledged.items + lost.items + pending.items, items);
                    prop_assert_eq!(acknowledged.records, seen.acknowledged.len() as u64);
                    prop_assert!(acknowledged.items >= seen.acknowledged_items);
                    prop_assert!(pending.bytes <= BYTES_MAX);
                    prop_assert!(seen.acknowledged.iter().all(|seq| *seq <= log.head));
                }
            }
        }
    }

    #[test]
    fn a_destination_that_lags_loses_its_oldest_records_and_the_others_nothing() {
        let mut log = Log::new(BYTES_MAX);
        log.attach("fast").unwrap();
        log.attach("slow").unwrap();
        for n in 0..10 {
            log.push(record(7, 30, n)).unwrap();
            let (seq, _) = log.next("fast").unwrap();
            assert!(log.ack("fast", seq));
        }
        assert_eq!(log.destinations["fast"].lost, Count::default());
        assert_eq!(log.destinations["slow"].lost, Count { records: 7, items: 49 });
        assert_eq!(log.next("slow").unwrap().0, Seq(8));
        assert_eq!(log.delivered(), Seq(7));
    }

    #[test]
    fn a_record_being_sent_while_lag_passes_over_it_counts_as_what_becomes_of_it() {
        for acknowledge in [true, false] {
            let mut log = Log::new(BYTES_MAX);
            log.attach("a").unwrap();
            log.push(record(5, 60, 1)).unwrap();
            let (first, _) = log.next("a").unwrap();
            log.settle("a", first, 2);
            log.push(record(1, 60, 2)).unwrap();
            assert_eq!(log.destinations["a"].lost, Count::default(), "not known yet");
            assert_eq!(log.delivered(), Seq::START);
            if acknowledge {
                assert!(log.ack("a", first));
            }
            assert_eq!(log.next("a").unwrap().0, Seq(2), "the lost one does not come again");
            assert!(!log.ack("a", first), "known to be lost");
            let (acknowledged, lost) = match acknowledge {
                true => (Count { records: 1, items: 5 }, Count::default()),
                false => (Count { records: 0, items: 2 }, Count { records: 1, items: 3 }),
            };
            assert_eq!(log.destinations["a"].acknowledged, acknowledged);
            assert_eq!(log.destinations["a"].lost, lost);
        }
    }

    #[test]
    fn empty_records_are_bounded_too() {
        let mut log = Log::new(BYTES_MAX);
        log.attach("a").unwrap();
        for n in 0..RECORDS_MAX + 10 {
            log.push(record(1, 0, n)).unwrap();
        }
        assert_eq!(log.records.len() as u64, RECORDS_MAX);
        assert_eq!(log.destinations["a"].lost.records, 10);
    }

    #[test]
    fn a_record_larger_than_the_queue_is_refused_and_counted() {
        let mut log = Log::new(BYTES_MAX);
        log.attach("a").unwrap();
        let refused = log.push(record(3, 101, 0));
        assert_eq!(refused, Err(Error::TooLarge { payload_bytes: 101, bytes_max: 100 }));
        assert_eq!(log.too_large, Count { records: 1, items: 3 });
        assert_eq!(log.push(record(3, 100, 0)), Ok(Seq(1)));
    }

    #[test]
    fn without_destinations_nothing_is_kept() {
        let mut log = Log::new(BYTES_MAX);
        log.push(record(1, 50, 0)).unwrap();
        assert_eq!((log.bytes(), log.delivered()), (0, Seq(1)));
        log.attach("late").unwrap();
        assert_eq!(log.next("late"), None, "a new destination starts at the head");
    }

    #[test]
    fn a_removed_destination_holds_nothing_up_and_its_loss_is_counted() {
        let mut log = Log::new(BYTES_MAX);
        log.attach("gone").unwrap();
        log.attach("here").unwrap();
        log.push(record(4, 50, 0)).unwrap();
        let (seq, _) = log.next("here").unwrap();
        log.ack("here", seq);
        assert_eq!(log.remove("gone"), Err(Error::CursorInUse("gone".to_owned())));
        log.detach("gone");
        assert_eq!(log.delivered(), Seq::START);
        log.remove("gone").unwrap();
        assert_eq!((log.delivered(), log.bytes()), (Seq(1), 0));
        assert_eq!(log.removed, Count { records: 1, items: 4 });
    }
}
