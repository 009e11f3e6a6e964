//! Letting go of what ended, and of what finds no room.

use std::path::Path;

use super::generation::Life;
use super::{AREAS_MAX, GenerationId, LIVES_MAX, Timeline, own_len};

/// The part of them that goes when too many live.
const LIVES_EVICTED: usize = LIVES_MAX / 16;
/// How long the mappings of a program that ended are kept, nanoseconds: samples wait so long for tables, and less.
pub(in crate::process) const ENDED_KEPT_NS: u64 = 22_000_000_000;
/// Processes looked for in /proc at once, after their ends may have been missed.
const CHECKED_AT_ONCE: usize = 256;

impl Timeline {
    /// Lets go of what ended some time ago, and of processes whose end was missed.
    pub(in crate::process) fn expire(&mut self, now_ns: u64) {
        while let Some((_, id)) =
            self.ended.pop_front_if(|(ended_ns, _)| ended_ns.saturating_add(ENDED_KEPT_NS) <= now_ns)
        {
            if self.get(id).is_some_and(|generation| generation.ended_ns.is_some()) {
                self.forget(id);
            }
        }
        let checked = self.unsure.split_off(self.unsure.len().saturating_sub(CHECKED_AT_ONCE));
        for pid in checked {
            if !Path::new("/proc").join(pid.to_string()).exists() {
                self.end_life(pid, now_ns);
            }
        }
    }

    pub(super) fn forget(&mut self, id: GenerationId) {
        let Some(generation) = self.generations.remove(&id) else {
            return;
        };
        self.changed.extend(generation.image);
        self.areas_len = self.areas_len.saturating_sub(own_len(&generation.mappings));
        let Some(lives) = self.lives.get_mut(&generation.pid) else {
            return;
        };
        let before = lives.len();
        for life in lives.iter_mut() {
            life.generations.retain(|known| *known != id);
        }
        lives.retain(|life| !life.generations.is_empty());
        self.lives_len -= before - lives.len();
        if lives.is_empty() {
            self.lives.remove(&generation.pid);
        }
    }

    /// Lets go of the dead, the longest dead first; when all live, of those that were told of longest ago and
    /// never sampled, then of any: /proc shows them again.
    pub(super) fn make_room(&mut self) {
        let (lives, areas) = (LIVES_MAX - LIVES_EVICTED, AREAS_MAX - AREAS_MAX / 16);
        let is_crowded = |it: &Self| it.lives_len > lives || it.areas_len > areas;
        while is_crowded(self)
            && let Some((_, id)) = self.ended.pop_front()
        {
            if self.get(id).is_some_and(|generation| generation.ended_ns.is_some()) {
                self.evicted += 1;
                self.forget(id);
            }
        }
        if !is_crowded(self) {
            return;
        }
        let sampled = |life: &Life| life.start_ns.is_some();
        let mut oldest: Vec<(bool, u64, Vec<GenerationId>)> = self
            .lives
            .values()
            .flatten()
            .map(|life| (sampled(life), life.used_ns, life.generations.clone()))
            .collect();
        oldest.sort_unstable();
        for (_, _, ids) in oldest {
            if !is_crowded(self) {
                break;
            }
            self.evicted += 1;
            ids.into_iter().for_each(|id| self.forget(id));
        }
    }
}
