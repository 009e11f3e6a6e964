//! Pages: what unwind tables and layouts are written in, shared by all executables and images.
//! A page is 1,024 words of 32 bits; arrays of [`CHUNK_PAGES`] pages are added to the pool one by one.

/// Bytes of a page.
pub const PAGE_BYTES: usize = 4096;
/// 32-bit words of a page.
pub const PAGE_WORDS: usize = PAGE_BYTES / size_of::<u32>();
/// Pages of one chunk: 1 MiB, the step in which the pool grows.
pub const CHUNK_PAGES: u32 = 256;
/// Chunks of the pool: 1 GiB, far above any budget.
pub const CHUNKS_MAX: u32 = 1024;
/// Never given out, so that 0 means no page.
pub const PAGE_NONE: u32 = 0;

/// A page's words. A plain array: 6.1 refuses an inner map whose value type is a struct of its own.
pub type Page = [u32; PAGE_WORDS];

/// Entries of an index page: (first offset, page) in two words.
pub const INDEX_ENTRIES_MAX: usize = PAGE_WORDS / 2;
/// Rows of a leaf page.
pub const LEAF_ROWS_MAX: usize = PAGE_WORDS;
/// Bits of a row that number its rule; the rest is the offset from the leaf's first offset.
pub const ROW_RULE_BITS: u32 = 14;
/// Offsets of a leaf's rows are below this, bytes from the leaf's first offset.
pub const LEAF_SPAN_BYTES: u32 = (1 << (32 - ROW_RULE_BITS)) - 1;
/// The rule number of a row where nothing is known, and of all words behind the last row.
pub const RULE_NONE: u32 = (1 << ROW_RULE_BITS) - 1;
/// What fills a leaf behind its last row: no offset below [`LEAF_SPAN_BYTES`] reaches it.
pub const ROW_UNUSED: u32 = u32::MAX;
/// Rules of one page.
pub const RULES_PER_PAGE: u32 = (PAGE_BYTES / size_of::<u64>()) as u32;
/// Pages of one executable's rules.
pub const RULE_PAGES_MAX: usize = 8;
/// Rules of one executable; rows of further rules become [`RULE_NONE`].
pub const RULES_MAX: u32 = RULES_PER_PAGE * RULE_PAGES_MAX as u32;

/// Mappings of one layout page, 32 bytes each.
pub const LAYOUT_MAPPINGS_MAX: usize = PAGE_BYTES / size_of::<crate::Mapping>();
/// Entries of a layout's index page: (address of the first mapping: u64, page: u32, 0: u32).
pub const LAYOUT_INDEX_ENTRIES_MAX: usize = PAGE_BYTES / 16;

/// A row's word.
#[inline(always)]
pub const fn row(offset_bytes: u32, rule: u32) -> u32 {
    offset_bytes << ROW_RULE_BITS | rule
}

/// Offset of a row from its leaf's first offset, bytes.
#[inline(always)]
pub const fn row_offset(row: u32) -> u32 {
    row >> ROW_RULE_BITS
}

/// Rule number of a row.
#[inline(always)]
pub const fn row_rule(row: u32) -> u32 {
    row & RULE_NONE
}

/// Where a rule lies: index into [`crate::Executable::rule_pages`], and its first word (of two, low half
/// first) in that page. Rules are written from the end of a page, so that the root page can hold them
/// behind its entries.
#[inline(always)]
pub const fn rule_place(rule: u32) -> (usize, usize) {
    let in_page = rule % RULES_PER_PAGE;
    ((rule / RULES_PER_PAGE) as usize, PAGE_WORDS - 2 - 2 * in_page as usize)
}

const _: () = assert!(RULES_MAX < RULE_NONE);
