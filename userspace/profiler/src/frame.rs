//! Every distinct frame once: where it is, and its name as soon as the symbolizer knows it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::{HashMap, HashMapExt as _};
use symbolizer::{Query, Resolved, Symbolizer};

use crate::executable::Binary;

/// Distinct frames kept.
const FRAMES_MAX: usize = 262_144;
/// So many are kept without asking whether a stack still has them; and then twice as many as were found to be had.
const FRAMES_UNASKED: usize = 16_384;
/// Addresses given to the symbolizer at once.
const QUERIES_PER_JOB_MAX: usize = 2048;

/// Frames that wait to be asked for again.
const RETRIES_MAX: usize = 4096;
/// When a frame without a name is asked for again, after the answer.
const RETRY_AFTER: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(60)];

/// Index into the table.
pub(crate) type FrameId = u32;

/// Where a frame is. Never a bare process address where anything better is known, so that a dead
/// process still has names and identical programs share their frames.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Kernel {
        address: u64,
    },
    File {
        binary: Arc<Binary>,
        file_offset: u64,
    },
    /// Code made at run time by the process image with this number.
    Jit {
        image: u32,
        pid: u32,
        address: u64,
    },
    /// Nothing is mapped there, or the process was gone before its mappings were read.
    Unknown,
}

/// The instructions that a stack stands at, leaf first: the leaf's own address, and for each return
/// address the call, which lies one byte before.
pub(crate) fn instructions(stack: &[u64]) -> impl Iterator<Item = u64> {
    stack.iter().enumerate().map(|(index, address)| address.saturating_sub(u64::from(index > 0)))
}

/// One frame with its name.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) place: Place,
    /// `None` until the symbolizer answered.
    pub(crate) symbol: Option<Resolved>,
    /// Answers without a name so far.
    attempts: u8,
}

#[derive(Debug)]
struct Retry {
    id: FrameId,
    due: Instant,
}

#[derive(Debug, PartialEq, Eq, Hash, Clone, Copy)]
enum Key {
    Kernel(u64),
    File(u64, u64),
    Jit(u32, u64),
    Unknown,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Frames {
    by_key: HashMap<Key, FrameId>,
    frames: Vec<Frame>,
    /// Not yet given to the symbolizer.
    waiting: Vec<FrameId>,
    /// Given, by job.
    asked: HashMap<u64, Vec<FrameId>>,
    next_job: u64,
    /// Frames that stacks had when that was last looked at.
    had: usize,
    /// Frames without a name that may get one later: code is made, modules are loaded.
    retries: VecDeque<Retry>,
    /// Frames that found the table full.
    pub(crate) dropped: u64,
    symbolizer: Symbolizer,
}

impl Frames {
    pub(crate) fn new(symbolizer: Symbolizer) -> Self {
        Self {
            by_key: HashMap::new(),
            frames: Vec::new(),
            waiting: Vec::new(),
            asked: HashMap::new(),
            next_job: 0,
            had: 0,
            retries: VecDeque::new(),
            dropped: 0,
            symbolizer,
        }
    }

    /// The frame at a place, made if it is new.
    pub(crate) fn id(&mut self, place: Place) -> FrameId {
        let key = match &place {
            Place::Kernel { address } => Key::Kernel(*address),
            Place::File { binary, file_offset } => Key::File(binary.id, *file_offset),
            Place::Jit { image, address, .. } => Key::Jit(*image, *address),
            Place::Unknown => Key::Unknown,
        };
        if let Some(id) = self.by_key.get(&key) {
            return *id;
        }
        // Room is kept for the one frame that stands for all that find none.
        if self.is_full() && key != Key::Unknown {
            self.dropped += 1;
            return self.id(Place::Unknown);
        }
        let id = self.frames.len() as FrameId;
        let symbol = matches!(place, Place::Unknown).then_some(Err(symbolizer::Reason::NoSymbol));
        if symbol.is_none() {
            self.waiting.push(id);
        }
        self.frames.push(Frame { place, symbol, attempts: 0 });
        self.by_key.insert(key, id);
        id
    }

    pub(crate) fn get(&self, id: FrameId) -> &Frame {
        &self.frames[id as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether many frames may be of stacks that are gone.
    pub(crate) fn may_be_thinned(&self) -> bool {
        self.frames.len() > FRAMES_UNASKED.max(self.had * 2)
    }

    /// Whether the table must be thinned.
    pub(crate) fn is_full(&self) -> bool {
        self.frames.len() >= FRAMES_MAX
    }

    /// Whether every frame was asked for and answered.
    pub(crate) fn is_resolved(&self) -> bool {
        self.asked.is_empty() && self.waiting.is_empty()
    }

    /// Gives the symbolizer what waits and takes what is done; waits at most `wait` for the rest.
    pub(crate) fn resolve(&mut self, wait: Duration) {
        let deadline = Instant::now() + wait;
        loop {
            self.ask();
            let left = if self.asked.is_empty() {
                Duration::ZERO
            } else {
                deadline.saturating_duration_since(Instant::now())
            };
            let done = self.symbolizer.completed(left);
            let idle = done.is_empty();
            for (job, symbols) in done {
                for (id, symbol) in self.asked.remove(&job).unwrap_or_default().into_iter().zip(symbols) {
                    self.answer(id, symbol);
                }
            }
            if self.is_resolved() || (idle && Instant::now() >= deadline) {
                return;
            }
        }
    }

    /// Keeps only frames that `stacks` still refer to and rewrites their references.
    pub(crate) fn retain<'a>(&mut self, stacks: impl Iterator<Item = &'a mut [FrameId]>) {
        let mut renumbered: HashMap<FrameId, FrameId> = HashMap::new();
        let mut old: Vec<Option<Frame>> = std::mem::take(&mut self.frames).into_iter().map(Some).collect();
        for stack in stacks {
            for id in stack {
                *id = *renumbered.entry(*id).or_insert_with(|| {
                    self.frames.extend(old[*id as usize].take());
                    self.frames.len() as FrameId - 1
                });
            }
        }
        self.had = self.frames.len();
        self.by_key.retain(|_, id| renumbered.get(id).map(|new| *id = *new).is_some());
        self.by_key.shrink_to(self.had);
        // Answers on their way name frames by their old number: those are asked for again.
        let unanswered =
            std::mem::take(&mut self.waiting).into_iter().chain(self.asked.drain().flat_map(|(_, ids)| ids));
        self.waiting = unanswered.filter_map(|id| renumbered.get(&id).copied()).collect();
        self.retries.retain_mut(|retry| renumbered.get(&retry.id).map(|new| retry.id = *new).is_some());
    }

    /// What the symbolizer counts.
    pub(crate) fn symbolizer(&self) -> &Symbolizer {
        &self.symbolizer
    }

    fn answer(&mut self, id: FrameId, symbol: Resolved) {
        let Some(frame) = self.frames.get_mut(id as usize) else {
            return;
        };
        let may_come = matches!(frame.place, Place::Jit { .. } | Place::Kernel { .. });
        if symbol.is_err() && may_come && self.retries.len() < RETRIES_MAX {
            let attempt = frame.attempts as usize;
            frame.attempts += 1;
            if let Some(after) = RETRY_AFTER.get(attempt) {
                self.retries.push_back(Retry { id, due: Instant::now() + *after });
            }
        }
        frame.symbol = Some(symbol);
    }

    fn ask(&mut self) {
        let now = Instant::now();
        let due = self.retries.iter().filter(|retry| retry.due <= now).map(|retry| retry.id);
        self.waiting.extend(due);
        self.retries.retain(|retry| retry.due > now);
        while !self.waiting.is_empty() {
            let from = self.waiting.len().saturating_sub(QUERIES_PER_JOB_MAX);
            let ids = self.waiting.split_off(from);
            let mut ids = ids;
            let mut queries = Vec::with_capacity(ids.len());
            // A file that was let go before its frames were named has none to give.
            ids.retain(|id| match query(&self.get(*id).place) {
                Some(query) => {
                    queries.push(query);
                    true
                }
                None => false,
            });
            self.next_job += 1;
            if self.symbolizer.submit(self.next_job, queries).is_err() {
                // Its queue is full: these go with the next round.
                self.waiting.extend(ids);
                return;
            }
            self.asked.insert(self.next_job, ids);
        }
    }
}

fn query(place: &Place) -> Option<Query> {
    Some(match place {
        Place::Kernel { address } => Query::Kernel { address: *address },
        Place::File { binary, file_offset } => {
            Query::User { executable: binary.open_file()?, file_offset: *file_offset }
        }
        Place::Jit { pid, address, .. } => Query::Jit { pid: *pid, address: *address },
        Place::Unknown => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_whose_stacks_are_gone_go_when_they_may_be_more_than_half() {
        let mut frames = Frames::new(Symbolizer::spawn(symbolizer::Config::default()).unwrap());
        let ids: Vec<FrameId> =
            (0..=FRAMES_UNASKED as u64).map(|address| frames.id(Place::Kernel { address })).collect();
        assert!(frames.may_be_thinned());
        let mut stack = [ids[7], ids[3], ids[7]];
        frames.retain(std::iter::once(stack.as_mut_slice()));
        assert_eq!((frames.len(), frames.may_be_thinned()), (2, false));
        let kept = stack.map(|id| match frames.get(id).place {
            Place::Kernel { address } => address,
            _ => 0,
        });
        assert_eq!(kept, [7, 3, 7]);
        assert_eq!(frames.id(Place::Kernel { address: 3 }), stack[1], "found again");
        assert_eq!(frames.waiting.len(), 2, "still to be asked for");
    }

    #[test]
    fn a_frame_that_is_kept_is_still_asked_for_again() {
        let mut frames = Frames::new(Symbolizer::spawn(symbolizer::Config::default()).unwrap());
        let ids = [1, 2, 3].map(|address| frames.id(Place::Kernel { address }));
        frames.waiting.clear();
        frames.answer(ids[0], Err(symbolizer::Reason::NoSymbol));
        frames.answer(ids[2], Err(symbolizer::Reason::NoSymbol));
        frames.asked.insert(9, vec![ids[1], ids[2]]);
        let mut stack = [ids[2]];
        frames.retain(std::iter::once(stack.as_mut_slice()));
        let retried: Vec<FrameId> = frames.retries.iter().map(|retry| retry.id).collect();
        assert_eq!((retried.as_slice(), frames.waiting.as_slice()), (stack.as_slice(), stack.as_slice()));
    }
}
