//! Bounded reads of a part of a file through a few cached blocks; never mapped, so that a truncated file is a
//! short read and not a signal.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of one block.
const BLOCK_BYTES: u64 = 64 << 10;
/// Blocks kept while a part is read in order: 2 MiB.
const BLOCKS_IN_ORDER: usize = 32;
/// Blocks kept of a part that turns out to be read in any order, as optimizers that move functions (BOLT) leave it:
/// 64 MiB.
const BLOCKS_MAX: usize = 1024;
/// Times that a part is read before its order counts as none; twice are needed.
const IN_ORDER_READS: u64 = 3;
/// Bytes that may be read from the file for each byte of the part.
const REREAD_MAX: u64 = 32;

/// A part of a file.
#[derive(Debug)]
pub(crate) struct Blocks<'a> {
    file: &'a File,
    /// Where the part begins in the file.
    start: u64,
    /// Length of the part, cut to the file's end.
    bytes: u64,
    cached: Vec<Block>,
    /// For each block of the part its index in `cached`.
    places: Vec<Option<u16>>,
    uses: u64,
    read_bytes: u64,
}

#[derive(Debug)]
struct Block {
    number: usize,
    last_use: u64,
    content: Vec<u8>,
}

impl<'a> Blocks<'a> {
    /// The part of `file`, which is `file_bytes` long, from `start` on; cut to the file's end and to `bytes_max`.
    pub(crate) fn new(file: &'a File, file_bytes: u64, start: u64, bytes: u64, bytes_max: u64) -> Self {
        let bytes = bytes.min(file_bytes.saturating_sub(start)).min(bytes_max);
        let places = vec![None; bytes.div_ceil(BLOCK_BYTES) as usize];
        Self { file, start, bytes, cached: Vec::new(), places, uses: 0, read_bytes: 0 }
    }

    /// Whether so much was read that nothing more is.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.read_bytes > self.bytes.saturating_mul(REREAD_MAX)
    }

    /// Length of the part.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Fills `into` from `offset` of the part on; `None` when that lies outside, the file ends earlier, or too
    /// much was read already.
    pub(crate) fn read(&mut self, offset: u64, into: &mut [u8]) -> Option<()> {
        let end = offset.checked_add(into.len() as u64).filter(|end| *end <= self.bytes)?;
        let (mut at, mut filled) = (offset, 0);
        while at < end {
            let part = self.at(at)?;
            let count = part.len().min(into.len() - filled);
            if count == 0 {
                return None;
            }
            into.get_mut(filled..filled + count)?.copy_from_slice(part.get(..count)?);
            filled += count;
            at += count as u64;
        }
        Some(())
    }

    /// As [`Self::read`], into the end of a vector.
    pub(crate) fn append(&mut self, offset: u64, bytes: usize, to: &mut Vec<u8>) -> Option<()> {
        if offset.checked_add(bytes as u64)? > self.bytes {
            return None;
        }
        let old = to.len();
        to.resize(old + bytes, 0);
        self.read(offset, to.get_mut(old..)?)
    }

    /// Bytes from `offset` to the end of what is cached around it, at least one.
    pub(crate) fn at(&mut self, offset: u64) -> Option<&[u8]> {
        if offset >= self.bytes {
            return None;
        }
        self.block((offset / BLOCK_BYTES) as usize)?.get((offset % BLOCK_BYTES) as usize..)
    }

    pub(crate) fn u32(&mut self, offset: u64) -> Option<u32> {
        let mut word = [0; 4];
        self.read(offset, &mut word)?;
        Some(u32::from_le_bytes(word))
    }

    pub(crate) fn u64(&mut self, offset: u64) -> Option<u64> {
        let mut word = [0; 8];
        self.read(offset, &mut word)?;
        Some(u64::from_le_bytes(word))
    }

    /// The first `wanted` word among those at each eighth byte of the part, from `offset` on, and where it is.
    pub(crate) fn find_word(&mut self, offset: u64, wanted: impl Fn(u64) -> bool) -> Option<(u64, u64)> {
        let mut at = offset.checked_next_multiple_of(8)?;
        loop {
            let (words, rest) = self.at(at)?.as_chunks();
            if let Some(index) = words.iter().position(|word| wanted(u64::from_le_bytes(*word))) {
                return Some((at + 8 * index as u64, u64::from_le_bytes(*words.get(index)?)));
            }
            if words.is_empty() || !rest.is_empty() {
                return None;
            }
            at += 8 * words.len() as u64;
        }
    }

    fn block(&mut self, number: usize) -> Option<&[u8]> {
        self.uses += 1;
        let place = match *self.places.get(number)? {
            Some(place) => place,
            None => self.load(number)?,
        };
        let block = self.cached.get_mut(usize::from(place))?;
        block.last_use = self.uses;
        Some(&block.content)
    }

    /// Reads a block, over the one that was not used for longest when enough are kept; where it is.
    fn load(&mut self, number: usize) -> Option<u16> {
        if self.is_exhausted() {
            return None;
        }
        let offset = number as u64 * BLOCK_BYTES;
        let bytes = BLOCK_BYTES.min(self.bytes.checked_sub(offset)?);
        let is_in_order = self.read_bytes <= self.bytes.saturating_mul(IN_ORDER_READS);
        self.read_bytes += bytes;
        let kept_max = if is_in_order { BLOCKS_IN_ORDER } else { BLOCKS_MAX };
        if self.cached.len() < kept_max {
            self.cached.push(Block { number, last_use: 0, content: Vec::new() });
        }
        let (index, block) = self.cached.iter_mut().enumerate().min_by_key(|(_, block)| block.last_use)?;
        *self.places.get_mut(block.number)? = None;
        block.content.resize(bytes as usize, 0);
        let read = read_up_to(self.file, &mut block.content, self.start + offset).ok()?;
        block.content.truncate(read);
        block.number = number;
        let place = u16::try_from(index).ok()?;
        *self.places.get_mut(number)? = Some(place);
        Some(place)
    }
}

/// Reads until `into` is full or the file ends; how many bytes there were.
fn read_up_to(file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
