//! Slots of executables in the kernel's tables: given once, and again only after nobody can mean the last holder.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use abi::EXECUTABLES_MAX;

use super::Binary;

/// A freed slot rests: stacks on their way still name it.
const QUARANTINE: Duration = Duration::from_secs(10);
/// Slot 0 is never given, so that 0 means none.
const SLOT_FIRST: u32 = 1;

/// All slots; an executable's index is its slot.
#[derive(Debug, Default)]
pub(super) struct Slots {
    binaries: Vec<Option<Arc<Binary>>>,
    /// When each was freed, the longest ago first. Their executables stay until the slot is given again.
    freed: VecDeque<(Instant, u32)>,
}

impl Slots {
    /// A slot for the executable that `make` makes; `None` when all are taken or rest.
    pub(super) fn insert(&mut self, now: Instant, make: impl FnOnce(u32) -> Binary) -> Option<Arc<Binary>> {
        let slot = self.free(now)?;
        let binary = Arc::new(make(slot));
        if self.binaries.len() <= slot as usize {
            self.binaries.resize(slot as usize + 1, None);
        }
        if let Some(entry) = self.binaries.get_mut(slot as usize) {
            *entry = Some(Arc::clone(&binary));
        }
        Some(binary)
    }

    /// Frees a slot. Its executable can still be asked for while it rests.
    pub(super) fn free_later(&mut self, now: Instant, slot: u32) {
        self.freed.push_back((now, slot));
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Arc<Binary>> {
        self.binaries.get(slot as usize)?.as_ref()
    }

    fn free(&mut self, now: Instant) -> Option<u32> {
        if let Some((_, slot)) =
            self.freed.pop_front_if(|(freed, _)| now.duration_since(*freed) >= QUARANTINE)
        {
            return Some(slot);
        }
        let next = (self.binaries.len() as u32).max(SLOT_FIRST);
        (next < EXECUTABLES_MAX).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(slots: &mut Slots, now: Instant) -> Option<u32> {
        slots.insert(now, |slot| Binary::for_test(slot.into(), slot)).map(|binary| binary.slot)
    }

    #[test]
    fn a_slot_is_given_again_only_after_it_was_freed_and_has_rested() {
        let (mut slots, start) = (Slots::default(), Instant::now());
        assert_eq!((insert(&mut slots, start), insert(&mut slots, start)), (Some(1), Some(2)));
        slots.free_later(start, 1);
        assert_eq!(insert(&mut slots, start + QUARANTINE / 2), Some(3));
        assert_eq!(slots.get(1).map(|binary| binary.slot), Some(1), "stacks on their way name it");
        assert_eq!(insert(&mut slots, start + QUARANTINE), Some(1));
        assert_eq!(insert(&mut slots, start + QUARANTINE), Some(4));
        assert!(slots.get(0).is_none() && slots.get(99).is_none());
    }

    #[test]
    fn no_slot_beyond_the_kernels_table_is_given() {
        let (mut slots, now) = (Slots::default(), Instant::now());
        let given = std::iter::from_fn(|| insert(&mut slots, now)).count();
        assert_eq!(given as u32, EXECUTABLES_MAX - 1);
        slots.free_later(now, 7);
        assert_eq!(insert(&mut slots, now + QUARANTINE), Some(7));
    }
}
