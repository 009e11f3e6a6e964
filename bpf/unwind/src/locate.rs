//! Look-ups in pages: the mapping at an address, the rule at a file offset.
//!
//! The searches halve a fixed number of times and compute instead of branch: the verifier walks them once,
//! where one branch for each halving would give it a thousand paths.

use abi::{
    EXECUTABLE_EVICTED, EXECUTABLE_READY, EXECUTABLE_UNREADABLE, End, Executable, INDEX_ENTRIES_MAX, Image,
    LEAF_SPAN_BYTES, Mapping, PAGE_WORDS, Page, RULE_NONE, RULE_PAGES_MAX, RULES_MAX, Rule, row, row_rule,
    rule_place,
};

use crate::Found;

/// Halvings of a leaf's 1,024 rows, an index page's 512 entries, a layout page's 128 mappings and a layout
/// index page's 256 entries.
const ROW_STEPS: u32 = 10;
const INDEX_STEPS: u32 = 9;
const MAPPING_STEPS: u32 = 7;
const LAYOUT_INDEX_STEPS: u32 = 8;
/// Words of these.
const INDEX_ENTRY_WORDS: usize = 2;
const MAPPING_WORDS: usize = size_of::<Mapping>() / size_of::<u32>();
const LAYOUT_ENTRY_WORDS: usize = 4;
/// User addresses lie below; so the sign of a difference says which of two is smaller.
const USER_ADDRESS_END: u64 = 1 << 63;

const _: () = assert!(1 << ROW_STEPS == abi::LEAF_ROWS_MAX && 1 << INDEX_STEPS == INDEX_ENTRIES_MAX);
const _: () = assert!(1 << MAPPING_STEPS == abi::LAYOUT_MAPPINGS_MAX);
const _: () = assert!(1 << LAYOUT_INDEX_STEPS == abi::LAYOUT_INDEX_ENTRIES_MAX);
const _: () = assert!(RULE_PAGES_MAX.is_power_of_two() && PAGE_WORDS.is_power_of_two());

/// The pool of pages.
pub trait Pages {
    /// The page with this number; `None` when there is none.
    fn page(&self, number: u32) -> Option<&Page>;
}

/// The mapping of a layout that holds an address.
#[inline(always)]
pub fn find_mapping<P: Pages>(pages: &P, image: &Image, address: u64) -> Option<Mapping> {
    if address >= USER_ADDRESS_END {
        return None;
    }
    let (mut page, mut entries) = (image.page, image.entries);
    if image.levels != 0 {
        let index = pages.page(page)?;
        let place = last_below::<LAYOUT_INDEX_STEPS>(entries, address, |entry| {
            start_key(index, entry * LAYOUT_ENTRY_WORDS)
        });
        page = word(index, place * LAYOUT_ENTRY_WORDS + 2);
        entries = abi::LAYOUT_MAPPINGS_MAX as u32;
    }
    let mappings = pages.page(page)?;
    let place =
        last_below::<MAPPING_STEPS>(entries, address, |entry| start_key(mappings, entry * MAPPING_WORDS));
    let first = place * MAPPING_WORDS;
    let mapping = Mapping {
        start: long(mappings, first),
        end: long(mappings, first + 2),
        file_offset: word(mappings, first + 4),
        executable: word(mappings, first + 5),
        kind: word(mappings, first + 6),
        reserved: 0,
    };
    let holds = entries != 0 && mapping.kind != 0 && mapping.start <= address && address < mapping.end;
    holds.then_some(mapping)
}

/// What an executable's table says of a file offset. A page that is missing is one that a table just left:
/// the answer is then [`End::TablePending`].
#[inline(always)]
pub fn find_rule<P: Pages>(pages: &P, executable: &Executable, file_offset: u32) -> Found {
    match executable.state {
        EXECUTABLE_READY => {}
        EXECUTABLE_EVICTED => return Found::NoTable(End::TableEvicted),
        EXECUTABLE_UNREADABLE => return Found::NoTable(End::TableUnreadable),
        _ => return Found::NoTable(End::TablePending),
    }
    find_row(pages, executable, file_offset).unwrap_or(Found::NoTable(End::TablePending))
}

/// `None` when a page is missing.
#[inline(always)]
fn find_row<P: Pages>(pages: &P, executable: &Executable, file_offset: u32) -> Option<Found> {
    let root = pages.page(executable.root)?;
    let (mut base, mut page) = index_entry(root, executable.entries, file_offset);
    if executable.levels == 2 && base <= file_offset {
        (base, page) = index_entry(pages.page(page)?, INDEX_ENTRIES_MAX as u32, file_offset);
    }
    if executable.entries == 0 || base > file_offset {
        return Some(Found::NoRow);
    }
    let leaf = pages.page(page)?;
    let offset = file_offset.wrapping_sub(base).min(LEAF_SPAN_BYTES - 1);
    let key = u64::from(row(offset, RULE_NONE)) + 1;
    let place = last_below::<ROW_STEPS>(PAGE_WORDS as u32, key, |entry| u64::from(word(leaf, entry)));
    let found = word(leaf, place);
    // A leaf's first row may lie behind its base, then the word found is above the key.
    if u64::from(found) >= key || row_rule(found) >= RULES_MAX {
        return Some(Found::NoRow);
    }
    let (rule_page, rule_word) = rule_place(row_rule(found));
    // SAFETY: the mask keeps the index inside the array, whose length is a power of two.
    let rules =
        pages.page(unsafe { *executable.rule_pages.get_unchecked(rule_page & (RULE_PAGES_MAX - 1)) })?;
    Some(Found::Rule(Rule::from_words([word(rules, rule_word), word(rules, rule_word + 1)])))
}

/// The greatest entry of an index page whose offset is not above `file_offset`, or else the first: (offset, page).
#[inline(always)]
fn index_entry(index: &Page, entries: u32, file_offset: u32) -> (u32, u32) {
    let key = u64::from(file_offset) + 1;
    let place =
        last_below::<INDEX_STEPS>(entries, key, |entry| u64::from(word(index, entry * INDEX_ENTRY_WORDS)));
    (word(index, place * INDEX_ENTRY_WORDS), word(index, place * INDEX_ENTRY_WORDS + 1))
}

/// The greatest place among the first `entries` of 2^STEPS sorted ones whose key is below `limit`; 0 when there
/// is none. Keys and `limit` are below 2^63.
#[inline(always)]
fn last_below<const STEPS: u32>(entries: u32, limit: u64, key: impl Fn(usize) -> u64) -> usize {
    let mut place = 0u64;
    let mut step = 1u64 << STEPS;
    while step > 1 {
        step >>= 1;
        let next = place + step;
        let fits = sign(next.wrapping_sub(u64::from(entries)));
        let below = sign(key(next as usize).wrapping_sub(limit));
        place += step * (fits & below);
    }
    place as usize
}

/// 1 for a negative difference, else 0.
#[inline(always)]
fn sign(difference: u64) -> u64 {
    opaque(difference) >> 63
}

/// The same value, of which the compiler knows nothing: otherwise it turns the sign back into a comparison and,
/// as BPF has no conditional move, that into a branch.
#[cfg(target_arch = "bpf")]
#[inline(always)]
fn opaque(mut value: u64) -> u64 {
    // SAFETY: adds 0 to a register.
    unsafe { core::arch::asm!("{0} += 0", inout(reg) value, options(pure, nomem)) };
    value
}

#[cfg(not(target_arch = "bpf"))]
#[inline(always)]
fn opaque(value: u64) -> u64 {
    value
}

/// Key of a mapping by its first address: one less, so that the zeros behind the last mapping sort last.
#[inline(always)]
fn start_key(page: &Page, index: usize) -> u64 {
    long(page, index).wrapping_sub(1) & (USER_ADDRESS_END - 1)
}

/// Two words from an even index on, the low one first.
#[inline(always)]
fn long(page: &Page, index: usize) -> u64 {
    let index = opaque(index as u64) as usize & (PAGE_WORDS - 2);
    // SAFETY: the mask keeps an even index inside the page, whose length is a power of two, and so the next one.
    unsafe { u64::from(*page.get_unchecked(index)) | u64::from(*page.get_unchecked(index + 1)) << 32 }
}

#[inline(always)]
fn word(page: &Page, index: usize) -> u32 {
    // The verifier of 5.10 loses the bounds of an OR, which the compiler makes of the places' sums: it must see the
    // mask that the compiler would leave out.
    let index = opaque(index as u64) as usize & (PAGE_WORDS - 1);
    // SAFETY: the mask keeps the index inside the page, whose length is a power of two.
    unsafe { *page.get_unchecked(index) }
}

#[cfg(test)]
mod tests;
