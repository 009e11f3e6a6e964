//! One entry at a time of a section of call frame information, behind a copy of its CIE.

use std::collections::VecDeque;

use crate::blocks::Blocks;
use crate::span::Source;

/// Bytes of a CIE; toolchains make some 24.
const CIE_BYTES_MAX: usize = 4096;
/// CIEs that are remembered; sections have some ten.
const CIES_MAX: usize = 16;
/// Bytes of a function's entry.
const FDE_BYTES_MAX: usize = 4 << 20;
/// Bytes of entries and their CIEs that are parsed, for each byte of the section.
const REPARSE_MAX: u64 = 16;
const CIE_ID_DEBUG_FRAME: u32 = u32::MAX;
const CIE_ID_EH_FRAME: u32 = 0;

/// The entries of a section.
#[derive(Debug)]
pub(super) struct Entries<'a> {
    source: Source,
    pub(super) blocks: Blocks<'a>,
    /// CIEs that were used, the last one first: (place, content).
    cies: VecDeque<(u32, Vec<u8>)>,
    /// A CIE and behind it the entry of one function, which refers to it.
    pub(super) buffer: Vec<u8>,
    bytes_left: u64,
}

impl<'a> Entries<'a> {
    pub(super) fn new(source: Source, blocks: Blocks<'a>) -> Self {
        let bytes_left = blocks.bytes().saturating_mul(REPARSE_MAX);
        Self { source, blocks, cies: VecDeque::new(), buffer: Vec::new(), bytes_left }
    }

    /// What a CIE has where an entry refers to its CIE.
    pub(super) fn cie_id(&self) -> u32 {
        if self.source == Source::DebugFrame { CIE_ID_DEBUG_FRAME } else { CIE_ID_EH_FRAME }
    }

    /// Puts an entry behind its CIE into the buffer; where it begins there.
    pub(super) fn load(&mut self, place: u32) -> Option<usize> {
        let length = self.blocks.u32(u64::from(place))?;
        let pointer = self.blocks.u32(u64::from(place) + 4)?;
        let cie_place = match self.source {
            Source::DebugFrame => pointer,
            _ => place.checked_add(4)?.checked_sub(pointer)?,
        };
        self.load_cie(cie_place)?;
        let (_, cie) = self.cies.front()?;
        let bytes = usize::try_from(length).ok()?.checked_add(4).filter(|bytes| *bytes <= FDE_BYTES_MAX)?;
        let at = cie.len();
        let paid = self.bytes_left.checked_sub((at + bytes) as u64);
        self.bytes_left = paid.unwrap_or_default();
        paid?;
        self.buffer.clear();
        self.buffer.extend_from_slice(cie);
        self.blocks.append(u64::from(place), bytes, &mut self.buffer)?;
        let pointer = match self.source {
            Source::DebugFrame => 0,
            _ => u32::try_from(at + 4).ok()?,
        };
        self.buffer.get_mut(at + 4..at + 8)?.copy_from_slice(&pointer.to_le_bytes());
        Some(at)
    }

    /// Brings a CIE to the front of those that are remembered.
    fn load_cie(&mut self, place: u32) -> Option<()> {
        if let Some(index) = self.cies.iter().position(|(known, _)| *known == place) {
            self.cies.swap(0, index);
            return Some(());
        }
        let length = self.blocks.u32(u64::from(place))?;
        if self.blocks.u32(u64::from(place) + 4)? != self.cie_id() {
            return None;
        }
        let bytes = usize::try_from(length).ok()?.checked_add(4).filter(|bytes| *bytes <= CIE_BYTES_MAX)?;
        let mut cie = if self.cies.len() < CIES_MAX { Vec::new() } else { self.cies.pop_back()?.1 };
        cie.clear();
        self.blocks.append(u64::from(place), bytes, &mut cie)?;
        self.cies.push_front((place, cie));
        Some(())
    }

    /// Whether a limit on the work was met.
    pub(super) fn is_cut(&self) -> bool {
        self.bytes_left == 0 || self.blocks.is_exhausted()
    }
}
