//! A record and its place in the log.

use bytes::Bytes;

/// One opaque unit of delivery: what was once sent is resent byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// How many things (profiles, samples, lines) the payload carries; what losses are counted in.
    pub items: u32,
    /// Newest timestamp in the payload, milliseconds since the epoch.
    pub newest_unix_ms: i64,
    /// The signal's own wire form. Cloning shares the memory.
    pub payload: Bytes,
}

impl Record {
    /// Size that counts against the queue's limit.
    pub fn payload_bytes(&self) -> u64 {
        self.payload.len() as u64
    }
}

/// A record's place: the first one pushed is 1, each next one is one more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub(crate) u64);

impl Seq {
    /// Before the first record.
    pub const START: Seq = Seq(0);

    /// The place as a number, for display.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl std::fmt::Display for Seq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}
