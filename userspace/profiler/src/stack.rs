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

    pub(crate) fn insert(&mut self, key: StackKey, image: ImageKey, frames: Box<[FrameId]>) {
        self.stacks.insert(key, Stack { image, frames, used: self.interval });
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
        let mut oldest_kept = self.interval.saturating_sub(IDLE_INTERVALS);
        if crowded || self.stacks.len() > STACKS_MAX {
            let mut used: Vec<u64> = self.stacks.values().map(|stack| stack.used).collect();
            let middle = used.len() / 2;
            if let Some((_, median, _)) = (!used.is_empty()).then(|| used.select_nth_unstable(middle)) {
                oldest_kept = oldest_kept.max(*median + 1).min(self.interval);
            }
        }
        let gone: Vec<StackKey> =
            self.stacks.iter().filter(|(_, stack)| stack.used < oldest_kept).map(|(key, _)| *key).collect();
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
        stacks.insert(key(1), image(), Box::new([]));
        stacks.insert(key(2), image(), Box::new([]));
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
    fn what_is_counted_now_survives_crowding() {
        let mut stacks = Stacks::default();
        for hash in 0..10 {
            stacks.interval = hash;
            stacks.insert(key(hash), image(), Box::new([]));
        }
        let gone = stacks.evict(true);
        assert!(!gone.is_empty() && stacks.contains(&key(9)));
        assert!(gone.iter().all(|key| key.hash < 9));
    }
}
