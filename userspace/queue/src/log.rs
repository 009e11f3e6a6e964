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
        let destination =
            self.destinations.entry(name.to_owned()).or_insert_with(|| Destination::at(head));
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
