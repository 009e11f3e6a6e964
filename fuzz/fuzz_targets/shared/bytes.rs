//! Memory of a process that holds the input and nothing else.

use interpreters::Memory;

/// Where the input begins; low enough that a few bytes of input make a pointer to it.
pub(crate) const START: u64 = 0x1000;

pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl Memory for Bytes<'_> {
    fn read(&mut self, address: u64, into: &mut [u8]) -> Option<()> {
        let start = usize::try_from(address.checked_sub(START)?).ok()?;
        into.copy_from_slice(self.0.get(start..start.checked_add(into.len())?)?);
        Some(())
    }
}
