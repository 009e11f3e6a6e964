//! Reads of an untrusted file's headers, as many bytes as were allowed.

use std::cell::Cell;
use std::fs::File;
use std::ops::Range;

use object::{ReadCache, ReadRef};

/// Refuses reads once a number of bytes is used up; the cache alone would take as much memory as the file claims.
#[derive(Debug, Clone, Copy)]
pub struct Limited<'a> {
    /// Of the file.
    pub cache: &'a ReadCache<&'a File>,
    /// Bytes that may still be read.
    pub bytes_left: &'a Cell<u64>,
}

impl Limited<'_> {
    fn pay(&self, bytes: u64) -> Result<(), ()> {
        self.bytes_left.set(self.bytes_left.get().checked_sub(bytes).ok_or(())?);
        Ok(())
    }
}

impl<'a> ReadRef<'a> for Limited<'a> {
    fn len(self) -> Result<u64, ()> {
        self.cache.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        self.pay(size)?;
        self.cache.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        let found = self.cache.read_bytes_at_until(range, delimiter)?;
        self.pay(found.len() as u64)?;
        Ok(found)
    }
}
