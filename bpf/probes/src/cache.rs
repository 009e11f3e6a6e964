//! This CPU's memory of frames: the same few hundred addresses come again and again.

use abi::Rule;

/// Frames kept, one for each hash; a power of two.
const ENTRIES: usize = 512;
const _: () = assert!(ENTRIES.is_power_of_two());
/// 2^32 divided by the golden ratio: spreads versions over the hashes.
const SPREAD: u32 = 0x9e37_79b9;

/// What is known of an address in a layout. It never gets old: another layout has another version, and an
/// executable's slot is another's only when no layout refers to it.
#[repr(C)]
pub(crate) struct Entry {
    address: u64,
    /// Of the layout; none has version 0.
    version: u32,
    pub(crate) answer: u32,
    pub(crate) frame: u64,
    pub(crate) rule: Rule,
}

#[repr(C)]
pub(crate) struct Cache([Entry; ENTRIES]);

impl Cache {
    /// What is known of an address of a layout.
    #[inline(always)]
    pub(crate) fn get(&mut self, version: u32, address: u64) -> Option<&Entry> {
        let entry = self.entry(version, address);
        (entry.address == address && entry.version == version).then_some(entry)
    }

    /// Keeps what was found; only what does not change.
    #[inline(always)]
    pub(crate) fn put(&mut self, version: u32, address: u64, answer: u32, frame: u64, rule: Rule) {
        *self.entry(version, address) = Entry { address, version, answer, frame, rule };
    }

    #[inline(always)]
    fn entry(&mut self, version: u32, address: u64) -> &mut Entry {
        let low = address as u32;
        let hash = (low ^ low >> 9 ^ low >> 18 ^ version.wrapping_mul(SPREAD) >> 16) as usize;
        // SAFETY: masked by the length, a power of two.
        unsafe { self.0.get_unchecked_mut(hash & (ENTRIES - 1)) }
    }
}
