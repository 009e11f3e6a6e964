//! Stacks whose frames the kernel has sent, by the key under which it counts them.

use std::collections::HashMap;

use abi::StackKey;

use crate::frame::FrameId;
use crate::process::ImageKey;

/// Stacks kept; the longest unused go first and are sent again if they are met again.
const STACKS_MAX: usize = 65_536;
/// Intervals without a count after which a stack goes.
const IDLE_INTERVALS: u64 = 20;

/// One stack.
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) image: ImageKey,
    /// The cgroup its samples ran in; an image may have been in several.
    pub(crate) cgroup_id: u64,
    /// Leaf first: kernel frames, then user frames.
    pub(crate) frames: Box<[FrameId]>,
    /// Interval of the last count.
    pub(crate) used: u64,
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

    pub(crate) fn insert(&mut self, key: StackKey, image: ImageKey, cgroup_id: u64, frames: Box<[FrameId]>) {
        self.stacks.insert(key, Stack { image, cgroup_id, frames, used: self.interval });
    }

    /// Puts better frames in the place of what a stack had.
    pub(crate) fn replace(&mut self, key: &StackKey, frames: Box<[FrameId]>) {
        if let Some(stack) = self.stacks.get_mut(key) {
            stack.frames = frames;
        }
    }

    pub(crate) fn get(&self, key: &StackKey) -> Option<&Stack> {
        self.stacks.get(key)
    }

    /// Marks a stack as counted; false when it is not known.
    pub(crate) fn touch(&mut self, key: &StackKey) -> bool {
        let interval = self.interval;
        self.stacks.get_mut(key).map(|stack| stack.used = interval).is_some()
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

    /// Takes out stacks that were not used lately, and, over the limit, the longest unused half.
    pub(crate) fn evict(&mut self, crowded: bool) -> Vec<StackKey> {
        let oldest_kept = self.interval.saturating_sub(IDLE_INTERVALS);
        let is_idle = |stack: &Stack| stack.used < oldest_kept;
        let mut gone: Vec<StackKey> =
            self.stacks.iter().filter(|(_, stack)| is_idle(stack)).map(|(key, _)| *key).collect();
        let half = self.stacks.len() / 2;
        if (crowded || self.stacks.len() > STACKS_MAX) && gone.len() < half {
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

    fn image() -> ImageKey {
        ImageKey { tgid: 1, exec_id: 0, start_time_ns: 0 }
    }

    #[test]
    fn a_stack_that_is_counted_stays_and_an_idle_one_goes() {
        let mut stacks = Stacks::default();
        stacks.insert(key(1), image(), 1, Box::new([]));
        stacks.insert(key(2), image(), 1, Box::new([]));
        for _ in 0..IDLE_INTERVALS + 1 {
            stacks.interval += 1;
            assert!(stacks.touch(&key(1)));
            assert!(stacks.evict(false).is_empty() || !stacks.contains(&key(2)));
        }
        assert!(stacks.contains(&key(1)) && !stacks.contains(&key(2)));
        assert!(!stacks.touch(&key(2)));
        assert_eq!(stacks.evicted, 1);
    }

    #[test]
    fn crowding_takes_the_longest_unused_half_also_when_all_were_used_alike() {
        let mut stacks = Stacks::default();
        for hash in 0..10 {
            stacks.interval = hash;
            stacks.insert(key(hash), image(), 1, Box::new([]));
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
