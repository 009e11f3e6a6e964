//! A layout in the words of pages.

use abi::{LAYOUT_INDEX_ENTRIES_MAX, LAYOUT_MAPPINGS_MAX, Mapping, PAGE_WORDS, Page};

/// Mappings of one layout; those behind are left out.
pub(super) const MAPPINGS_MAX: usize = LAYOUT_INDEX_ENTRIES_MAX * LAYOUT_MAPPINGS_MAX;
const MAPPING_WORDS: usize = size_of::<Mapping>() / size_of::<u32>();

/// Pages of a layout.
pub(super) fn pages_needed(mappings: usize) -> usize {
    match mappings.min(MAPPINGS_MAX).div_ceil(LAYOUT_MAPPINGS_MAX) {
        leaves @ (0 | 1) => leaves,
        leaves => leaves + 1,
    }
}

/// Writes mappings into pages, as many as [`pages_needed`]; the first of them is the index page if there are
/// several. Returns the page to start from, and the levels.
pub(super) fn pack(mappings: &[Mapping], pages: &[u32], mut write: impl FnMut(u32, &Page)) -> (u32, u32) {
    let (root, leaves) = match pages {
        [] => return (abi::PAGE_NONE, 0),
        [page] => (*page, std::slice::from_ref(page)),
        [root, leaves @ ..] => (*root, leaves),
    };
    let mut index = [0; PAGE_WORDS];
    let entries = index.chunks_exact_mut(4);
    for ((page, chunk), entry) in leaves.iter().zip(mappings.chunks(LAYOUT_MAPPINGS_MAX)).zip(entries) {
        let mut words = [0; PAGE_WORDS];
        for (mapping, place) in chunk.iter().zip(words.chunks_exact_mut(MAPPING_WORDS)) {
            place.copy_from_slice(&mapping_words(mapping));
        }
        write(*page, &words);
        let first = chunk.first().map_or(0, |mapping| mapping.start);
        entry.copy_from_slice(&[first as u32, (first >> 32) as u32, *page, 0]);
    }
    if leaves.len() < 2 {
        return (root, 0);
    }
    write(root, &index);
    (root, 1)
}

/// A mapping as it lies in memory on the little-endian machines that are supported.
fn mapping_words(mapping: &Mapping) -> [u32; MAPPING_WORDS] {
    let Mapping { start, end, file_offset, executable, kind, reserved } = *mapping;
    let halves = |address: u64| [address as u32, (address >> 32) as u32];
    let ([start_low, start_high], [end_low, end_high]) = (halves(start), halves(end));
    [start_low, start_high, end_low, end_high, file_offset, executable, kind, reserved]
}
