//! Which generation of mappings an image is.

use super::{GenerationId, Timeline};
use crate::process::image::ImageKey;

/// A task's start time is taken before its fork is told, by microseconds unless it was interrupted.
const FORK_AFTER_START_MAX_NS: u64 = 1_000_000_000;

impl Timeline {
    /// The generation that an image is: by its start time and by the sample's moment, else by the number of
    /// execs. An image of which nothing was told gets a new one, of which nothing is known.
    pub(in crate::process) fn bind(
        &mut self,
        key: ImageKey,
        pid: u32,
        time_ns: Option<u64>,
        now_ns: u64,
    ) -> Option<GenerationId> {
        let at = match self.find_life(pid, key.start_time_ns) {
            Some(at) => at,
            None => self.assume_life(pid, key.start_time_ns)?,
        };
        let life = self.lives.get_mut(&pid)?.get_mut(at)?;
        life.start_ns = Some(key.start_time_ns);
        life.used_ns = life.used_ns.max(time_ns.unwrap_or(now_ns));
        let ids = life.generations.clone();
        let image = |id: &GenerationId| self.generations.get(id).and_then(|generation| generation.image);
        if let Some(id) = ids.iter().find(|id| image(id) == Some(key)) {
            return Some(*id);
        }
        let index = match time_ns {
            Some(time_ns) => {
                let begun = |id: &GenerationId| self.get(*id).is_some_and(|it| it.from_ns <= time_ns);
                ids.iter().rposition(begun).unwrap_or(0)
            }
            None => {
                let bound = ids.iter().enumerate().find_map(|(at, id)| Some((at, image(id)?.exec_id)));
                let execs =
                    |(at, exec_id): (usize, u32)| at as i64 + i64::from(key.exec_id) - i64::from(exec_id);
                bound.map_or(ids.len() as i64 - 1, execs).try_into().ok()?
            }
        };
        let (mut id, is_last) = match ids.get(index) {
            Some(id) => (*id, index + 1 == ids.len()),
            None => (*ids.last()?, true),
        };
        if let Some(other) = self.get(id)?.image {
            // An exec that was not told.
            if !is_last || other.exec_id >= key.exec_id || at + 1 != self.lives.get(&pid)?.len() {
                return None;
            }
            id = self.begin_generation(pid, time_ns.unwrap_or(now_ns));
        }
        self.get_mut(id)?.image = Some(key);
        Some(id)
    }

    /// A sample shows that a process lives whose end was told: its first thread alone had ended.
    pub(in crate::process) fn revive(&mut self, id: GenerationId) {
        let Some(generation) = self.generations.get_mut(&id) else {
            return;
        };
        let newest = self.lives.get_mut(&generation.pid).and_then(|lives| lives.last_mut());
        if let Some(life) = newest.filter(|life| life.generations.last() == Some(&id)) {
            (life.ended_ns, life.threads, generation.ended_ns) = (None, None, None);
            self.changed.extend(generation.image);
        }
    }

    /// Index among the pid's lives. A start time lies before what was told first of its life, and after the
    /// end of the one before.
    fn find_life(&self, pid: u32, start_ns: u64) -> Option<usize> {
        let lives = self.lives.get(&pid)?;
        if let Some(at) = lives.iter().position(|life| life.start_ns == Some(start_ns)) {
            return Some(at);
        }
        let at = lives.iter().position(|life| start_ns <= life.begun_ns)?;
        let life = lives.get(at)?;
        let before = at.checked_sub(1).and_then(|before| lives.get(before)?.ended_ns);
        let matches = life.start_ns.is_none()
            && before.is_none_or(|ended_ns| ended_ns < start_ns)
            && (!life.forked || life.begun_ns - start_ns <= FORK_AFTER_START_MAX_NS);
        matches.then_some(at)
    }

    /// A life that only a sample tells of; none for one older than what is known.
    fn assume_life(&mut self, pid: u32, start_ns: u64) -> Option<usize> {
        if self.lives.get(&pid).is_some_and(|lives| lives.iter().any(|life| life.begun_ns >= start_ns)) {
            return None;
        }
        self.begin_life(pid, 0, start_ns, false);
        self.lives.get(&pid)?.len().checked_sub(1)
    }
}
