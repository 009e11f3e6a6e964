//! The pool of pages: grown chunk by chunk up to a budget, reused, never given back to the kernel.

mod chunk;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use abi::{CHUNK_PAGES, CHUNKS_MAX, PAGE_BYTES, PAGE_NONE, Page};

use crate::Error;
pub(crate) use chunk::{CHUNK_BYTES, Chunk};

/// How long a freed page stays out of use: a kernel program that met it a moment ago may still read it.
pub(crate) const QUARANTINE: Duration = Duration::from_secs(1);
/// After the kernel refused a chunk none is asked for during this time.
const GROW_AGAIN: Duration = Duration::from_secs(60);

/// Pages by number, from 1 on. Page 0 ([`PAGE_NONE`]) is never given out and stays zero.
///
/// Chunks stay for the pool's life: a kernel program may read any page of a chunk at any time, so memory once
/// taken is reused and not returned.
#[derive(Debug)]
pub(crate) struct Pool {
    chunks: Vec<Chunk>,
    chunks_max: u32,
    free: Vec<u32>,
    /// Freed pages, oldest first, with the time from which they may be used again.
    quarantine: VecDeque<(Instant, Vec<u32>)>,
    quarantined: usize,
    /// Set while the kernel refuses more chunks.
    grow_after: Option<Instant>,
    /// Chunks that the kernel refused.
    pub(crate) chunks_refused: u64,
}

impl Pool {
    /// A pool of `budget_bytes`, rounded up to whole chunks; without any memory yet.
    pub(crate) fn new(budget_bytes: u64) -> Self {
        let chunks = budget_bytes.div_ceil(CHUNK_BYTES as u64).clamp(1, u64::from(CHUNKS_MAX));
        Self {
            chunks: Vec::new(),
            chunks_max: chunks as u32,
            free: Vec::new(),
            quarantine: VecDeque::new(),
            quarantined: 0,
            grow_after: None,
            chunks_refused: 0,
        }
    }

    /// Pages that the pool may have in all: those of the budget, or while the kernel refuses more, what is there.
    pub(crate) fn capacity(&self) -> usize {
        let chunks = if self.grow_after.is_some() { self.chunks.len() as u32 } else { self.chunks_max };
        (chunks * CHUNK_PAGES).saturating_sub(1) as usize
    }

    /// Pages that can be given out now, those of chunks that are still to come included.
    pub(crate) fn available(&self) -> usize {
        self.capacity().saturating_sub(self.used() + self.quarantined)
    }

    /// Pages given out and not freed.
    pub(crate) fn used(&self) -> usize {
        self.grown() - self.free.len() - self.quarantined
    }

    /// Freed pages that are not used again yet.
    pub(crate) fn quarantined(&self) -> usize {
        self.quarantined
    }

    /// Bytes taken from the kernel.
    pub(crate) fn memory_bytes(&self) -> u64 {
        (self.chunks.len() * CHUNK_BYTES) as u64
    }

    /// Bytes of pages that are there and wait to be used.
    pub(crate) fn free_bytes(&self) -> u64 {
        (self.free.len() * PAGE_BYTES) as u64
    }

    /// Gives out pages, adding chunks as needed; `None`, and nothing given, when there are too few.
    pub(crate) fn allocate(
        &mut self,
        pages: usize,
        now: Instant,
        mut add_chunk: impl FnMut(u32) -> Result<Chunk, Error>,
    ) -> Option<Vec<u32>> {
        self.settle(now);
        while self.free.len() < pages && pages <= self.available() {
            let number = self.chunks.len() as u32;
            match add_chunk(number) {
                Ok(chunk) => {
                    self.chunks.push(chunk);
                    let first = number * CHUNK_PAGES;
                    // From the back: the lowest numbers are given out first.
                    self.free.extend((first.max(PAGE_NONE + 1)..first + CHUNK_PAGES).rev());
                }
                Err(error) => {
                    tracing::warn!("the unwind tables get no more memory for a minute: {error}");
                    self.chunks_refused += 1;
                    self.grow_after = Some(now + GROW_AGAIN);
                }
            }
        }
        let first = self.free.len().checked_sub(pages)?;
        Some(self.free.split_off(first))
    }

    /// Overwrites a page that was given out.
    pub(crate) fn write(&mut self, page: u32, words: &Page) {
        let chunk = self.chunks.get_mut((page / CHUNK_PAGES) as usize);
        let written = page != PAGE_NONE && chunk.is_some_and(|chunk| chunk.write(page % CHUNK_PAGES, words));
        debug_assert!(written, "page {page} was never given out");
    }

    /// Takes pages back; nothing in the kernel may lead to them any more. They are used again after
    /// [`QUARANTINE`].
    pub(crate) fn free(&mut self, pages: Vec<u32>, now: Instant) {
        if !pages.is_empty() {
            self.quarantined += pages.len();
            self.quarantine.push_back((now + QUARANTINE, pages));
        }
    }

    /// Ends the quarantine of pages whose time has come.
    pub(crate) fn settle(&mut self, now: Instant) {
        while let Some((until, _)) = self.quarantine.front()
            && *until <= now
            && let Some((_, pages)) = self.quarantine.pop_front()
        {
            self.quarantined -= pages.len();
            self.free.extend(pages);
        }
        if self.grow_after.is_some_and(|after| after <= now) {
            self.grow_after = None;
        }
    }

    /// When the next pages leave the quarantine.
    pub(crate) fn settles_at(&self) -> Option<Instant> {
        self.quarantine.front().map(|(until, _)| *until)
    }

    /// Pages of the chunks that are there.
    fn grown(&self) -> usize {
        (self.chunks.len() * CHUNK_PAGES as usize).saturating_sub(1)
    }
}

impl unwind::Pages for Pool {
    fn page(&self, number: u32) -> Option<&Page> {
        self.chunks.get((number / CHUNK_PAGES) as usize)?.page(number % CHUNK_PAGES)
    }
}

#[cfg(test)]
mod tests;
