//! How far one destination has come: its position, what it has in flight, what it has lost.

use crate::{Record, Seq};

/// What a destination has not acknowledged yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pending {
    pub records: u64,
    pub items: u64,
    /// Payload bytes held in the queue for this destination.
    pub bytes: u64,
}

/// A number of records and of the items in them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub records: u64,
    pub items: u64,
}

impl Count {
    /// One more record, with this many items.
    pub fn add(&mut self, items: u32) {
        self.records += 1;
        self.items += u64::from(items);
    }
}

/// The record that `next` handed out last and that is not acknowledged.
#[derive(Debug, Clone, Copy)]
struct InFlight {
    seq: Seq,
    items: u32,
    /// Items of it that the destination has already settled, see `Cursor::settle`.
    settled: u32,
    /// The lag limit has passed over it: no longer in the log, and lost unless an acknowledgement comes.
    overrun: bool,
}

/// One destination's position. Everything after `floor` is held for it in the log.
#[derive(Debug)]
pub(crate) struct Destination {
    /// A cursor of this name is alive.
    pub(crate) attached: bool,
    /// Records up to here are acknowledged, lost, or the overrun one in flight.
    floor: Seq,
    in_flight: Option<InFlight>,
    /// Records and bytes in the log after `floor`.
    held: Count,
    held_bytes: u64,
    pub(crate) acknowledged: Count,
    pub(crate) lost: Count,
}

impl Destination {
    /// A new destination starts at the head: it gets what is pushed from now on.
    pub(crate) fn at(head: Seq) -> Self {
        Self {
            attached: false,
            floor: head,
            in_flight: None,
            held: Count::default(),
            held_bytes: 0,
            acknowledged: Count::default(),
            lost: Count::default(),
        }
    }

    pub(crate) fn floor(&self) -> Seq {
        self.floor
    }

    pub(crate) fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    pub(crate) fn held_records(&self) -> u64 {
        self.held.records
    }

    pub(crate) fn pushed(&mut self, record: &Record) {
        self.held.add(record.items);
        self.held_bytes += record.payload_bytes();
    }

    /// Steps over the oldest held record because of lag.
    pub(crate) fn overrun(&mut self, record: &Record) {
        self.step(record);
        match &mut self.in_flight {
            Some(flying) if flying.seq == self.floor => flying.overrun = true,
            _ => self.lost.add(record.items),
        }
    }

    /// The record after `floor` is being handed out; an overrun one before it is given up.
    pub(crate) fn handed_out(&mut self, record: &Record) {
        let seq = Seq(self.floor.0 + 1);
        if self.in_flight.is_some_and(|flying| flying.seq == seq) {
            return;
        }
        self.give_up_overrun();
        self.in_flight = Some(InFlight { seq, items: record.items, settled: 0, overrun: false });
    }

    /// Whether acknowledging `seq` would mean anything now.
    pub(crate) fn is_in_flight(&self, seq: Seq) -> bool {
        self.in_flight.is_some_and(|flying| flying.seq == seq)
    }

    /// Acknowledges the record in flight; `record` is it when the log still holds it.
    pub(crate) fn acknowledged(&mut self, record: Option<&Record>) {
        let Some(flying) = self.in_flight.take() else { return };
        self.acknowledged.add(flying.items);
        if let (false, Some(record)) = (flying.overrun, record) {
            self.step(record);
        }
    }

    /// Counts part of the record in flight as acknowledged.
    pub(crate) fn settled(&mut self, items: u32) {
        let Some(flying) = &mut self.in_flight else { return };
        flying.settled = flying.settled.saturating_add(items).min(flying.items);
    }

    /// The cursor is gone: what it had in flight is handed out again to the next one, as a whole.
    pub(crate) fn detached(&mut self) {
        self.attached = false;
        self.give_up_overrun();
        self.in_flight = None;
    }

    /// Low-water mark: everything up to here is acknowledged or lost.
    pub(crate) fn delivered(&self) -> Seq {
        match self.in_flight {
            Some(flying) if flying.overrun => Seq(flying.seq.0 - 1),
            _ => self.floor,
        }
    }

    pub(crate) fn pending(&self) -> Pending {
        let overrun = self.in_flight.filter(|flying| flying.overrun);
        Pending {
            records: self.held.records + u64::from(overrun.is_some()),
            items: self.held.items + overrun.map_or(0, |flying| u64::from(flying.items)),
            bytes: self.held_bytes,
        }
    }

    fn give_up_overrun(&mut self) {
        if let Some(flying) = self.in_flight.take_if(|flying| flying.overrun) {
            self.lost.records += 1;
            self.lost.items += u64::from(flying.items - flying.settled);
            self.acknowledged.items += u64::from(flying.settled);
        }
    }

    fn step(&mut self, record: &Record) {
        self.floor.0 += 1;
        self.held.records -= 1;
        self.held.items -= u64::from(record.items);
        self.held_bytes -= record.payload_bytes();
    }
}
