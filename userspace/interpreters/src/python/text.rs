//! Python's texts, in the three widths they may have.

use super::offsets::Text;
use crate::Memory;
use crate::Unnamed;
use crate::memory::{half, word};

/// Characters of a text that are read.
pub(super) const CHARACTERS_MAX: usize = 1024;
/// Stands at the end of what was cut.
const CUT: char = '…';
/// A text cannot be longer; what claims to be is none.
const LENGTH_MAX: u64 = 1 << 40;

/// A text, and whether it was cut. Only compact texts are read: names and files are always so.
pub(super) fn read(offsets: Text, at: u64, memory: &mut dyn Memory) -> Result<(String, bool), Unnamed> {
    let unreadable = Unnamed::Unreadable;
    let field = |offset: u16| at.wrapping_add(u64::from(offset));
    let length = word(memory, field(offsets.length)).ok_or(unreadable)?;
    let state = half(memory, field(offsets.state)).ok_or(unreadable)? >> offsets.kind_shift;
    let (width, is_compact, is_ascii) = ((state & 7) as usize, state & 8 != 0, state & 16 != 0);
    if !is_compact || !matches!(width, 1 | 2 | 4) || (is_ascii && width != 1) || length > LENGTH_MAX {
        return Err(Unnamed::NotText);
    }
    let characters = (length as usize).min(CHARACTERS_MAX);
    let mut bytes = vec![0; characters * width];
    let data = field(if is_ascii { offsets.ascii } else { offsets.compact });
    memory.read(data, &mut bytes).ok_or(unreadable)?;
    let mut text = decode(&bytes, width);
    let is_cut = length as usize > CHARACTERS_MAX;
    if is_cut {
        text.push(CUT);
    }
    Ok((text, is_cut))
}

/// Characters of one width; lone surrogates, which Python allows, become the replacement character.
fn decode(bytes: &[u8], width: usize) -> String {
    let number = |chunk: &[u8]| chunk.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte));
    let characters = bytes.chunks_exact(width).map(|chunk| char::from_u32(number(chunk)));
    characters.map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Text = Text { length: 16, state: 32, ascii: 40, compact: 56, kind_shift: 2 };
    const OLD: Text = Text { length: 16, state: 32, ascii: 48, compact: 72, kind_shift: 2 };
    const FREE_THREADED: Text = Text { length: 32, state: 48, ascii: 56, compact: 72, kind_shift: 8 };

    struct Object(Vec<u8>);

    impl Memory for Object {
        fn read(&mut self, address: u64, into: &mut [u8]) -> Option<()> {
            let start = usize::try_from(address).ok()?;
            into.copy_from_slice(self.0.get(start..start.checked_add(into.len())?)?);
            Some(())
        }
    }

    /// A text object: how many characters it claims, its kind, whether it is ASCII, its bytes.
    fn object(offsets: Text, length: u64, kind: u32, is_ascii: bool, data: &[u8]) -> Object {
        let mut bytes = vec![0; 128 + data.len()];
        let state = (kind | 8 | u32::from(is_ascii) << 4) << offsets.kind_shift;
        let at = usize::from(if is_ascii { offsets.ascii } else { offsets.compact });
        bytes[usize::from(offsets.length)..][..8].copy_from_slice(&length.to_le_bytes());
        bytes[usize::from(offsets.state)..][..4].copy_from_slice(&state.to_le_bytes());
        bytes[at..at + data.len()].copy_from_slice(data);
        Object(bytes)
    }

    fn text(offsets: Text, mut object: Object) -> Result<(String, bool), Unnamed> {
        read(offsets, 0, &mut object)
    }

    #[test]
    fn each_width_is_read() {
        for offsets in [OLD, NEW, FREE_THREADED] {
            let whole = |text: &str| Ok((text.to_owned(), false));
            assert_eq!(text(offsets, object(offsets, 4, 1, true, b"main")), whole("main"));
            assert_eq!(text(offsets, object(offsets, 2, 1, false, b"\xe9t")), whole("ét"));
            assert_eq!(text(offsets, object(offsets, 1, 2, false, &[0xac, 0x20])), whole("€"));
            assert_eq!(text(offsets, object(offsets, 1, 4, false, &[0, 0xf6, 1, 0])), whole("😀"));
            assert_eq!(text(offsets, object(offsets, 0, 1, true, b"")), whole(""));
        }
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        let (text, is_cut) = text(NEW, object(NEW, 5000, 1, true, &[b'a'; 5000])).unwrap();
        assert!(is_cut && text.ends_with("a…"));
        assert_eq!(text.chars().count(), CHARACTERS_MAX + 1);
    }

    #[test]
    fn what_is_no_compact_text_is_refused() {
        assert_eq!(text(NEW, object(NEW, 4, 0, false, b"")), Err(Unnamed::NotText));
        assert_eq!(text(NEW, object(NEW, 4, 3, false, b"")), Err(Unnamed::NotText));
        assert_eq!(text(NEW, object(NEW, 4, 2, true, b"")), Err(Unnamed::NotText));
        assert_eq!(text(NEW, object(NEW, u64::MAX, 1, true, b"")), Err(Unnamed::NotText));
        assert_eq!(text(NEW, Object(vec![0; 128])), Err(Unnamed::NotText));
        let mut elsewhere = object(NEW, 4, 1, true, b"main");
        elsewhere.0[usize::from(NEW.state)] &= !0x20;
        assert_eq!(text(NEW, elsewhere), Err(Unnamed::NotText));
        assert_eq!(text(NEW, object(NEW, 1000, 1, true, b"short")), Err(Unnamed::Unreadable));
        assert_eq!(text(NEW, Object(vec![])), Err(Unnamed::Unreadable));
    }

    #[test]
    fn what_is_no_character_is_replaced() {
        assert_eq!(decode(&[0x00, 0xd8], 2), "\u{fffd}");
        assert_eq!(decode(&[0xff; 4], 4), "\u{fffd}");
    }
}
