//! The executable mappings of one image over time: each address has what it showed at a sample's moment.

use super::area::{Area, Target};
use super::unopened::UnopenedId;
use crate::mapping::MAPPINGS_MAX;

/// Ranges kept that are not there any more.
const PAST_MAX: usize = 4096;
/// A sample is looked at within this time; what ended before is not kept.
const PAST_KEPT_NS: u64 = 22_000_000_000;
/// From this many ranges on, neighbouring ones of code made at run time become one: generated code is often
/// made executable page by page.
const JOIN_FROM: usize = 256;

/// The mappings.
#[derive(Debug, Clone, Default)]
pub(super) struct Mappings {
    /// There now, by address, without overlap.
    current: Vec<Area>,
    /// There before.
    past: Vec<Area>,
    /// What is older than this is known from /proc, which was read then.
    read_ns: u64,
}

/// What became of a new mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing is other than it was.
    None,
    /// What is there now is another.
    Changed,
    /// There are too many.
    Full,
}

impl Mappings {
    /// What is there now, by address.
    pub(super) fn current(&self) -> &[Area] {
        &self.current
    }

    /// Ranges kept.
    pub(super) fn len(&self) -> usize {
        self.current.len() + self.past.len()
    }

    /// What all of them map, also what a sample may still be looked at for.
    pub(super) fn targets(&self, now_ns: u64) -> impl Iterator<Item = &Target> {
        let past = self.past.iter().filter(move |area| area.to_ns.saturating_add(PAST_KEPT_NS) > now_ns);
        self.current.iter().chain(past).map(|area| &area.target)
    }

    /// Files of theirs that could not be opened; one may come more than once.
    pub(super) fn unopened(&self) -> impl Iterator<Item = UnopenedId> {
        self.current.iter().chain(&self.past).filter_map(|area| match area.target {
            Target::Unopened(id) => Some(id),
            _ => None,
        })
    }

    /// Whether this file of theirs is not open.
    pub(super) fn is_without(&self, id: UnopenedId) -> bool {
        self.current.iter().chain(&self.past).any(|area| area.target.is_unopened(id))
    }

    /// Puts what a file turned out to be in the place of itself as one that could not be opened, as long as it was
    /// there.
    pub(super) fn show(&mut self, id: UnopenedId, target: &Target, page_bytes: u64) {
        for areas in [&mut self.current, &mut self.past] {
            for area in areas.iter_mut().filter(|area| area.target.is_unopened(id)) {
                area.target = target.clone();
                area.cut_at_segment_end(page_bytes);
            }
            areas.retain(|area| area.start < area.end);
        }
    }

    /// What an address shows at a moment.
    pub(super) fn at(&self, time_ns: u64, address: u64) -> Option<&Area> {
        let now = self.now(address).filter(|area| area.is_there_at(time_ns));
        let past = self.past.iter().filter(|area| area.holds(address) && area.is_there_at(time_ns));
        now.into_iter().chain(past).max_by_key(|area| area.from_ns)
    }

    /// What an address shows now, or showed last.
    pub(super) fn latest(&self, address: u64) -> Option<&Area> {
        let past = || self.past.iter().filter(|area| area.holds(address)).max_by_key(|area| area.to_ns);
        self.now(address).or_else(past)
    }

    /// Notes a range that was mapped at its `from_ns`, over whatever was there. It may be told of late: then
    /// what is known to be younger stays.
    pub(super) fn map(&mut self, area: Area) -> Change {
        if self.current.len() >= MAPPINGS_MAX {
            return Change::Full;
        }
        if area.from_ns <= self.read_ns {
            return self.map_before_read(area);
        }
        let first = self.current.partition_point(|known| known.end <= area.start);
        let last = self.current.partition_point(|known| known.start < area.end).max(first);
        let overlapped: Vec<Area> = self.current.drain(first..last).collect();
        let (mut kept, mut at, mut change) = (Vec::new(), area.start, Change::None);
        for known in overlapped {
            let (start, end) = (known.start.max(area.start), known.end.min(area.end));
            if known.start < area.start {
                kept.push(known.piece(known.start, area.start));
            }
            if at < start {
                kept.push(area.piece(at, start));
                change = Change::Changed;
            }
            if known.from_ns > area.from_ns {
                self.past.push(Area { to_ns: known.from_ns, ..area.piece(start, end) });
                kept.push(known.piece(start, end));
            } else if known.agrees(&area) {
                kept.push(known.piece(start, end));
            } else {
                self.end(&known.piece(start, end), area.from_ns);
                kept.push(area.piece(start, end));
                change = Change::Changed;
            }
            at = end;
            if area.end < known.end {
                kept.push(known.piece(area.end, known.end));
            }
        }
        if at < area.end {
            kept.push(area.piece(at, area.end));
            change = Change::Changed;
        }
        self.current.splice(first..first, joined(kept));
        self.tidy(area.from_ns);
        change
    }

    /// Puts what /proc showed at `time_ns`, by address, in the place of what is there. What it adds has been
    /// there for an unknown time, since `begun_ns` at most; what it lacks ended by then. True when anything is
    /// other than it was.
    pub(super) fn replace(&mut self, time_ns: u64, begun_ns: u64, areas: Vec<Area>) -> bool {
        let known = std::mem::take(&mut self.current);
        let mut changed = false;
        for area in &known {
            let gone = uncovered(area, &areas);
            changed |= !gone.is_empty();
            for (start, end) in gone {
                self.end(&area.piece(start, end), time_ns);
            }
        }
        let mut current = Vec::with_capacity(areas.len());
        for area in areas {
            let new = uncovered(&area, &known);
            changed |= !new.is_empty();
            let mut pieces: Vec<Area> = new
                .into_iter()
                .map(|(start, end)| Area { from_ns: begun_ns, to_ns: u64::MAX, ..area.piece(start, end) })
                .collect();
            for known in overlapping(&known, &area).iter().filter(|known| known.agrees(&area)) {
                pieces.push(known.piece(known.start.max(area.start), known.end.min(area.end)));
            }
            pieces.sort_unstable_by_key(|piece| piece.start);
            current.extend(pieces);
        }
        self.current = joined(current);
        self.read_ns = self.read_ns.max(time_ns);
        self.tidy(time_ns);
        changed
    }

    /// As of a moment: what a process made then has of it.
    pub(super) fn as_of(&self, time_ns: u64) -> Self {
        let mut current: Vec<Area> = Vec::with_capacity(self.current.len());
        let mut there: Vec<&Area> =
            self.current.iter().chain(&self.past).filter(|area| area.is_there_at(time_ns)).collect();
        there.sort_unstable_by_key(|area| std::cmp::Reverse(area.from_ns));
        for area in there {
            let area = Area { to_ns: u64::MAX, ..area.clone() };
            current.sort_unstable_by_key(|known| known.start);
            let free = gaps(&area, overlapping(&current, &area).iter().map(|known| (known.start, known.end)));
            current.extend(free.into_iter().map(|(start, end)| area.piece(start, end)));
        }
        current.sort_unstable_by_key(|area| area.start);
        Self { current, past: Vec::new(), read_ns: 0 }
    }

    /// Whether nothing changed after a moment.
    pub(super) fn is_as_of(&self, time_ns: u64) -> bool {
        let unchanged = |area: &Area| area.from_ns <= time_ns;
        self.read_ns <= time_ns
            && self.current.iter().all(unchanged)
            && self.past.iter().all(|area| area.to_ns <= time_ns)
    }

    fn now(&self, address: u64) -> Option<&Area> {
        crate::mapping::find(&self.current, address, |area| (area.start, area.end))
    }

    /// What /proc showed later is the truth; what this says is only how it was until then.
    fn map_before_read(&mut self, area: Area) -> Change {
        for (start, end) in uncovered(&area, &self.current) {
            self.past.push(Area { to_ns: self.read_ns, ..area.piece(start, end) });
        }
        Change::None
    }

    fn end(&mut self, area: &Area, time_ns: u64) {
        if area.from_ns < time_ns {
            self.past.push(Area { to_ns: time_ns, ..area.clone() });
        }
    }

    fn tidy(&mut self, now_ns: u64) {
        if self.past.len() > PAST_MAX / 2 {
            self.past.retain(|area| area.to_ns.saturating_add(PAST_KEPT_NS) > now_ns);
            let excess = self.past.len().saturating_sub(PAST_MAX);
            self.past.drain(..excess);
        }
        if self.current.len() >= JOIN_FROM {
            self.current.dedup_by(|next, area| {
                let join =
                    matches!(area.target, Target::Anonymous) && area.agrees(next) && area.end == next.start;
                if join {
                    area.end = next.end;
                    area.from_ns = area.from_ns.min(next.from_ns);
                }
                join
            });
        }
    }
}

/// Those of `areas`, which are sorted and without overlap, that share an address with `area`.
fn overlapping<'a>(areas: &'a [Area], area: &Area) -> &'a [Area] {
    let first = areas.partition_point(|other| other.end <= area.start);
    let last = areas.partition_point(|other| other.start < area.end).max(first);
    areas.get(first..last).unwrap_or_default()
}

/// The parts of `area` where none of `areas` shows the same.
fn uncovered(area: &Area, areas: &[Area]) -> Vec<(u64, u64)> {
    let agreeing = overlapping(areas, area).iter().filter(|other| other.agrees(area));
    gaps(area, agreeing.map(|other| (other.start, other.end)))
}

/// The parts of `area` outside `ranges`, which are sorted.
fn gaps(area: &Area, ranges: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
    let (mut gaps, mut at) = (Vec::new(), area.start);
    for (start, end) in ranges {
        if at < start {
            gaps.push((at, start.min(area.end)));
        }
        at = at.max(end);
    }
    if at < area.end {
        gaps.push((at, area.end));
    }
    gaps
}

/// Pieces of one range become that range again.
fn joined(mut areas: Vec<Area>) -> Vec<Area> {
    areas.dedup_by(|next, area| {
        let join = area.end == next.start && area.from_ns == next.from_ns && area.agrees(next);
        if join {
            area.end = next.end;
        }
        join
    });
    areas
}

#[cfg(test)]
mod tests;
