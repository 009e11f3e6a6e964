//! Stacks whose frames the kernel has sent, by the key under which it counts them.

use abi::{End, StackKey};
use foldhash::{HashMap, HashSet};

use crate::frame::FrameId;
use crate::process::ImageKey;

/// Stacks kept; the longest unused go first and are sent again if they are met again.
const STACKS_MAX: usize = 65_536;
/// Intervals without a count after which a stack goes.
const IDLE_INTERVALS: u64 = 4;

/// One stack.
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) image: ImageKey,
    /// The cgroup its samples ran in; an image may have been in several.
    pub(crate) cgroup_id: u64,
    /// Leaf first: kernel frames, then user frames.
    pub(crate) frames: Box<[FrameId]>,
    /// Why the user half ends where it does.
    pub(crate) end: End,
    /// Slots of the executables in it, each once: their tables are in use while the stack is counted.
    pub(crate) slots: Box<[u32]>,
    /// Interval of the last count.
    pub(crate) used: u64,
}

/// A stack without the interval of its last count.
#[derive(Debug)]
pub(crate) struct NewStack {
    pub(crate) image: ImageKey,
    pub(crate) cgroup_id: u64,
    pub(crate) frames: Box<[FrameId]>,
    pub(crate) end: End,
    pub(crate) slots: Box<[u32]>,
}

/// All stacks.
#[derive(Debug, Default)]
pub(crate) struct Stacks {
    stacks: HashMap<StackKey, Stack>,
    /// Number of the interval that is being counted.
    pub(crate) interval: u64,
    /// Stacks let go.
    pub(crate) evicted: u64,
}

impl Stacks {
    pub(crate) fn contains(&self, key: &StackKey) -> bool {
        self.stacks.contains_key(key)
    }

    pub(crate) fn insert(&mut self, key: StackKey, new: NewStack) {
        let NewStack { image, cgroup_id, frames, end, slots } = new;
        self.stacks.insert(key, Stack { image, cgroup_id, frames, end, slots, used: self.interval });
    }

    /// Slots of executables in stacks counted in this interval; one may come more than once.
    pub(crate) fn slots_in_use(&self) -> impl Iterator<Item = u32> {
        let counted = self.stacks.values().filter(|stack| stack.used == self.interval);
        counted.flat_map(|stack| stack.slots.iter().copied())
    }

    pub(crate) fn get(&self, key: &StackKey) -> Option<&Stack> {
        self.stacks.get(key)
    }

    /// Marks a stack as counted; `None` when it is not known.
    pub(crate) fn touch(&mut self, key: &StackKey) -> Option<&Stack> {
        let stack = self.stacks.get_mut(key)?;
        stack.used = self.interval;
        Some(stack)
    }

    /// Whether there are more than are kept: they are not left to grow until the interval ends.
    pub(crate) fn is_crowded(&self) -> bool {
        self.stacks.len() > STACKS_MAX
    }

    pub(crate) fn len(&self) -> usize {
        self.stacks.len()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Stack> {
        self.stacks.values()
    }

    pub(crate) fn frames_mut(&mut self) -> impl Iterator<Item = &mut [FrameId]> {
        self.stacks.values_mut().map(|stack| &mut *stack.frames)
    }

    /// Takes out the stacks that name one of these slots, which are given to others: under the same key, theirs may
    /// come next.
    pub(crate) fn remove_of(&mut self, slots: &HashSet<u32>) -> Vec<StackKey> {
        if slots.is_empty() {
            return Vec::new();
        }
        let names = |_: &StackKey, stack: &mut Stack| stack.slots.iter().any(|slot| slots.contains(slot));
        let gone: Vec<StackKey> = self.stacks.extract_if(names).map(|(key, _)| key).collect();
        self.evicted += gone.len() as u64;
        gone
    }

    /// Takes out stacks that were not used lately, and, over the limit, the longest unused half.
    pub(crate) fn evict(&mut self, crowded: bool) -> Vec<StackKey> {
        let oldest_kept = self.interval.saturating_sub(IDLE_INTERVALS);
        let is_idle = |stack: &Stack| stack.used < oldest_kept;
        let mut gone: Vec<StackKey> =
            self.stacks.iter().filter(|(_, stack)| is_idle(stack)).map(|(key, _)| *key).collect();
        let half = self.stacks.len() / 2;
        if (crowded || self.is_crowded()) && gone.len() < half {
            let mut kept: Vec<(u64, StackKey)> = self
                .stacks
                .iter()
                .filter(|(_, stack)| !is_idle(stack))
                .map(|(key, stack)| (stack.used, *key))
                .collect();
            kept.sort_unstable_by_key(|(used, _)| *used);
            gone.extend(kept.into_iter().map(|(_, key)| key).take(half - gone.len()));
        }
        for key in &gone {
            self.stacks.remove(key);
        }
        self.evicted += gone.len() as u64;
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(hash: u64) -> StackKey {
        StackKey { hash, tgid: 1, exec_id: 0 }
    }

    fn stack() -> NewStack {
        NewStack {
            image: ImageKey { tgid: 1, exec_id: 0, start_time_ns: 0 },
            cgroup_id: 1,
            frames: Box::new([]),
            end: End::Root,
            slots: Box::new([7]),
        }
    }

    #[test]
    fn a_stack_that_is_counted_stays_and_an_idle_one_goes() {
        let mut stacks = Stacks::default();
        stacks.insert(key(1), stack());
        stacks.insert(key(2), stack());
        for _ in 0..IDLE_INTERVALS + 1 {
            stacks.interval += 1;
            assert!(stacks.touch(&key(1)).is_some());
            assert!(stacks.evict(false).is_empty() || !stacks.contains(&key(2)));
        }
        assert!(stacks.contains(&key(1)) && !stacks.contains(&key(2)));
        assert!(stacks.touch(&key(2)).is_none());
        assert_eq!(stacks.evicted, 1);
    }

    #[test]
    fn only_executables_of_stacks_counted_in_this_interval_are_in_use() {
        let mut stacks = Stacks::default();
        stacks.insert(key(1), stack());
        assert_eq!(stacks.slots_in_use().collect::<Vec<_>>(), [7]);
        stacks.interval += 1;
        assert_eq!(stacks.slots_in_use().count(), 0);
        stacks.touch(&key(1));
        assert_eq!(stacks.slots_in_use().count(), 1);
    }

    #[test]
    fn the_stacks_of_a_slot_that_another_file_gets_go_and_the_others_stay() {
        let mut stacks = Stacks::default();
        stacks.insert(key(1), stack());
        stacks.insert(key(2), NewStack { slots: Box::new([8]), ..stack() });
        assert_eq!(stacks.remove_of(&HashSet::from_iter([7, 9])), [key(1)]);
        assert!(stacks.contains(&key(2)) && stacks.len() == 1);
        assert!(stacks.remove_of(&HashSet::default()).is_empty());
    }

    #[test]
    fn more_stacks_than_are_kept_are_crowded_until_half_of_them_went() {
        let mut stacks = Stacks::default();
        for hash in 0..STACKS_MAX as u64 {
            stacks.insert(key(hash), stack());
        }
        assert!(!stacks.is_crowded());
        stacks.insert(key(u64::MAX), stack());
        assert!(stacks.is_crowded());
        stacks.interval += 1;
        assert_eq!(stacks.evict(false).len(), STACKS_MAX / 2);
        assert!(!stacks.is_crowded());
    }

    #[test]
    fn crowding_takes_the_longest_unused_half_also_when_all_were_used_alike() {
        let mut stacks = Stacks::default();
        for hash in 0..10 {
            stacks.interval = hash / 5;
            stacks.insert(key(hash), stack());
        }
        stacks.interval += 1;
        let gone = stacks.evict(true);
        assert_eq!(gone.len(), 5);
        assert!(gone.iter().all(|key| key.hash < 5));
        for hash in 5..10 {
            stacks.touch(&key(hash));
        }
        stacks.interval += 1;
        assert_eq!(stacks.evict(true).len(), 2);
        assert_eq!(stacks.len(), 3);
    }
}
