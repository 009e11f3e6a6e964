//! One destination's reading position.

use crate::{Pending, Queue, Record, Seq};

/// Reads the log for one destination, one record in flight at a time.
///
/// Dropping it keeps the position: a new cursor of the same name is handed what was not
/// acknowledged, and what was pushed in between. [`Queue::remove`] forgets it.
#[derive(Debug)]
pub struct Cursor {
    queue: Queue,
    name: String,
}

impl Cursor {
    pub(crate) fn new(queue: Queue, name: String) -> Self {
        Self { queue, name }
    }

    /// The destination's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The oldest record that is neither acknowledged nor lost, waiting until there is one.
    ///
    /// Without an [`ack`](Self::ack) in between the same record comes again, unless this
    /// destination's lag has grown past it meanwhile: then it is counted lost and a later one
    /// comes. Cancel-safe.
    pub async fn next(&mut self) -> (Seq, Record) {
        self.queue.next(&self.name).await
    }

    /// Like [`next`](Self::next), or `None` when nothing is pending.
    pub fn try_next(&mut self) -> Option<(Seq, Record)> {
        self.queue.try_next(&self.name)
    }

    /// The record `seq`, which `next` handed out last, is done with and never comes again.
    /// False, and without effect, for any other `seq`. A record that lag has passed over while it
    /// was being sent can still be acknowledged, and then is not lost.
    pub fn ack(&mut self, seq: Seq) -> bool {
        self.queue.ack(&self.name, seq)
    }

    /// `items` of the record in flight are done with although the rest is not: should the rest be
    /// lost, these are not counted lost. Dropping the cursor forgets it, as the record is then
    /// handed out again whole.
    pub fn settle(&mut self, seq: Seq, items: u32) {
        self.queue.settle(&self.name, seq, items);
    }

    /// What this destination has not acknowledged.
    pub fn pending(&self) -> Pending {
        self.queue.pending(&self.name).unwrap_or_default()
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.queue.detach(&self.name);
    }
}
