//! Tables and layouts of a few pages, searched beside a linear search.

use abi::{
    FP_SAME, LAYOUT_MAPPINGS_MAX, LEAF_ROWS_MAX, MAPPING_FILE, RA_BELOW_CFA, ROW_UNUSED, RULES_PER_PAGE,
};
use proptest::prelude::*;

use super::*;

/// Page 0 is never given out.
struct Pool(Vec<Page>);

impl Pages for Pool {
    fn page(&self, number: u32) -> Option<&Page> {
        if number == abi::PAGE_NONE { None } else { self.0.get(number as usize) }
    }
}

impl Pool {
    fn new() -> Self {
        Self(vec![[0; PAGE_WORDS]])
    }

    /// Adds a page that begins with `words`, then repeats `filler`.
    fn add(&mut self, words: &[u32], filler: u32) -> u32 {
        let mut page = [filler; PAGE_WORDS];
        page[..words.len()].copy_from_slice(words);
        self.0.push(page);
        self.0.len() as u32 - 1
    }
}

/// The rule of a number, told from others by its offset.
fn rule(number: u32) -> Rule {
    Rule::of(abi::CFA_REGISTER, 7, FP_SAME, RA_BELOW_CFA, 0, number as i32)
}

/// A table of sorted rows (file offset, rule number), leaves of at most `leaf_rows` rows.
fn table(rows: &[(u32, u32)], leaf_rows: usize, levels: u32) -> (Pool, Executable) {
    let mut pool = Pool::new();
    let mut leaves = Vec::new();
    let mut rest = rows;
    while let [(base, _), ..] = *rest {
        let near = rest.iter().take(leaf_rows).take_while(|row| row.0 - base < LEAF_SPAN_BYTES).count();
        let words: Vec<u32> = rest[..near].iter().map(|&(offset, rule)| row(offset - base, rule)).collect();
        leaves.extend([base, pool.add(&words, ROW_UNUSED)]);
        rest = &rest[near..];
    }
    if levels == 2 {
        // Two entries each, so that few rows make many index pages.
        let pages: Vec<_> =
            leaves.chunks(4).map(|entries| [entries[0], pool.add(entries, u32::MAX)]).collect();
        leaves = pages.concat();
    }
    let mut executable = Executable {
        state: EXECUTABLE_READY,
        root: pool.add(&leaves, 0x5555_5555),
        entries: leaves.len() as u32 / 2,
        levels,
        ..Executable::default()
    };
    for number in 0..RULES_MAX {
        let (page, at) = rule_place(number);
        if number % RULES_PER_PAGE == 0 {
            executable.rule_pages[page] = pool.add(&[], 0);
        }
        pool.0[executable.rule_pages[page] as usize][at..at + 2].copy_from_slice(&rule(number).words());
    }
    (pool, executable)
}

fn found(number: u32) -> Found {
    Found::Rule(rule(number))
}

fn naive(rows: &[(u32, u32)], offset: u32) -> Found {
    match rows.iter().rev().find(|row| row.0 <= offset) {
        Some(&(_, number)) if number < RULES_MAX => found(number),
        _ => Found::NoRow,
    }
}

#[test]
fn a_place_has_the_rule_of_the_last_row_at_or_before_it() {
    let (pool, executable) = table(&[(0x1000, 3), (0x1010, 600), (0x1020, RULE_NONE)], LEAF_ROWS_MAX, 1);
    let rule = |offset| find_rule(&pool, &executable, offset);
    assert_eq!(rule(0), Found::NoRow);
    assert_eq!(rule(0xfff), Found::NoRow);
    assert_eq!(rule(0x1000), found(3));
    assert_eq!(rule(0x100f), found(3));
    assert_eq!(rule(0x1010), found(600));
    assert_eq!(rule(0x1020), Found::NoRow);
    assert_eq!(rule(u32::MAX), Found::NoRow);
}

#[test]
fn the_last_row_of_a_full_leaf_holds_up_to_the_next_leaf_however_far() {
    let mut rows: Vec<_> = (0..LEAF_ROWS_MAX as u32).map(|i| (0x1000 + 4 * i, i)).collect();
    rows.push((0x4000_0000, 17));
    let (pool, executable) = table(&rows, LEAF_ROWS_MAX, 1);
    assert_eq!(executable.entries, 2);
    for &(offset, number) in &rows {
        assert_eq!(find_rule(&pool, &executable, offset), found(number));
        assert_eq!(find_rule(&pool, &executable, offset + 3), found(number));
    }
    assert_eq!(find_rule(&pool, &executable, 0x3fff_ffff), found(1023));
    assert_eq!(find_rule(&pool, &executable, u32::MAX), found(17));
}

#[test]
fn a_full_root_and_full_index_pages_are_searched_to_their_last_entry() {
    let rows: Vec<_> = (0..INDEX_ENTRIES_MAX as u32).map(|i| (0x100 + 64 * i, i)).collect();
    let (pool, executable) = table(&rows, 1, 1);
    assert_eq!(executable.entries as usize, INDEX_ENTRIES_MAX);
    for &(offset, number) in &rows {
        assert_eq!(find_rule(&pool, &executable, offset), found(number));
    }
    assert_eq!(find_rule(&pool, &executable, 0xff), Found::NoRow);
    let (pool, executable) = table(&rows, 1, 2);
    assert_eq!(find_rule(&pool, &executable, 0x100 + 64 * 511), found(511));
    assert_eq!(find_rule(&pool, &executable, 0xff), Found::NoRow);
}

#[test]
fn a_rule_beside_the_root_s_entries_is_read_from_the_root() {
    let (mut pool, mut executable) = table(&[(0x1000, 0)], 1, 1);
    let (_, at) = rule_place(0);
    pool.0[executable.root as usize][at..at + 2].copy_from_slice(&rule(77).words());
    executable.rule_pages[0] = executable.root;
    assert_eq!(find_rule(&pool, &executable, 0x1000), found(77));
}

#[test]
fn a_table_that_is_not_there_says_why() {
    let (pool, ready) = table(&[(0x1000, 3)], 1, 1);
    let answer = |executable: Executable| find_rule(&pool, &executable, 0x1000);
    let no_table = Found::NoTable;
    assert_eq!(answer(Executable { state: 0, ..ready }), no_table(End::TablePending));
    assert_eq!(answer(Executable { state: EXECUTABLE_EVICTED, ..ready }), no_table(End::TableEvicted));
    assert_eq!(answer(Executable { state: EXECUTABLE_UNREADABLE, ..ready }), no_table(End::TableUnreadable));
    assert_eq!(answer(Executable { root: 9999, ..ready }), no_table(End::TablePending));
    assert_eq!(answer(Executable { rule_pages: [0; 8], ..ready }), no_table(End::TablePending));
    assert_eq!(answer(Executable { entries: 0, ..ready }), Found::NoRow);
}

fn mapping(start: u64, bytes: u64) -> Mapping {
    let file_offset = (start >> 12) as u32;
    Mapping { start, end: start + bytes, file_offset, executable: 3, kind: MAPPING_FILE, reserved: 0 }
}

fn words(mappings: &[Mapping]) -> Vec<u32> {
    let half = |value: u64| [value as u32, (value >> 32) as u32];
    mappings
        .iter()
        .flat_map(|m| [half(m.start), half(m.end), [m.file_offset, m.executable], [m.kind, 0]].concat())
        .collect()
}

/// A layout of sorted mappings, `per_page` on each page.
fn layout(mappings: &[Mapping], per_page: usize, levels: u32) -> (Pool, Image) {
    let mut pool = Pool::new();
    let mut image = Image { levels, entries: mappings.len() as u32, ..Image::default() };
    if levels == 0 {
        image.page = pool.add(&words(mappings), 0);
        return (pool, image);
    }
    let index: Vec<u32> = mappings
        .chunks(per_page)
        .flat_map(|part| {
            let start = part[0].start;
            [start as u32, (start >> 32) as u32, pool.add(&words(part), 0), 0]
        })
        .collect();
    image.entries = index.len() as u32 / 4;
    image.page = pool.add(&index, 0);
    (pool, image)
}

#[test]
fn an_address_is_in_the_mapping_from_its_first_byte_to_its_last() {
    let mappings = [mapping(0x40_0000, 0x1000), mapping(0x7f12_3456_7000, 0x2000)];
    for levels in [0, 1] {
        let (pool, image) = layout(&mappings, 1, levels);
        let find = |address| find_mapping(&pool, &image, address);
        for m in mappings {
            assert_eq!(find(m.start - 1), None);
            assert_eq!(find(m.start), Some(m));
            assert_eq!(find(m.end - 1), Some(m));
            assert_eq!(find(m.end), None);
        }
        assert_eq!([find(0), find(u64::MAX), find(1 << 63), find(u64::MAX >> 1)], [None; 4]);
    }
}

#[test]
fn full_layout_pages_are_searched_to_their_last_mapping_and_empty_ones_hold_nothing() {
    let many: Vec<_> =
        (0..LAYOUT_MAPPINGS_MAX as u64 * 3).map(|i| mapping(0x1000_0000 + i * 0x1000, 0x800)).collect();
    let (pool, image) = layout(&many[..LAYOUT_MAPPINGS_MAX], 0, 0);
    assert_eq!(find_mapping(&pool, &image, many[127].start + 1), Some(many[127]));
    assert_eq!(find_mapping(&pool, &image, many[128].start + 1), None);
    let (pool, image) = layout(&many, LAYOUT_MAPPINGS_MAX, 1);
    for m in &many {
        assert_eq!(find_mapping(&pool, &image, m.start), Some(*m));
        assert_eq!(find_mapping(&pool, &image, m.end), None);
    }
    for levels in [0, 1] {
        let (pool, image) = layout(&[], 1, levels);
        assert_eq!(find_mapping(&pool, &image, 0x1000), None);
    }
    assert_eq!(find_mapping(&Pool::new(), &Image { entries: 1, ..Image::default() }, 0x1000), None);
}

fn any_rows() -> impl Strategy<Value = Vec<(u32, u32)>> {
    let number = prop_oneof![0..RULES_MAX, Just(RULE_NONE)];
    let gap = prop_oneof![1..64u32, 1..0x1_0000u32, 0x3_0000..0x80_0000u32];
    (0..0x2000u32, proptest::collection::vec((gap, number), 1..200)).prop_map(|(first, gaps)| {
        let mut at = first;
        gaps.into_iter()
            .map(|(gap, number)| {
                at += gap;
                (at, number)
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_place_has_the_rule_that_a_linear_search_finds(
        rows in any_rows(),
        leaf_rows in 1usize..40,
        levels in 1u32..=2,
        others in proptest::collection::vec(any::<u32>(), 16),
    ) {
        let (pool, executable) = table(&rows, leaf_rows, levels);
        let near = rows.iter().flat_map(|row| [row.0 - 1, row.0, row.0 + 1]);
        for offset in near.chain(others) {
            prop_assert_eq!(find_rule(&pool, &executable, offset), naive(&rows, offset), "at {:#x}", offset);
        }
    }

    #[test]
    fn every_address_is_in_the_mapping_that_a_linear_search_finds(
        parts in proptest::collection::vec((0u64..0x10_0000, 1u64..0x10_0000), 1..120),
        per_page in 1usize..20,
        levels in 0u32..=1,
    ) {
        let mut at = 0x1000;
        let mut mappings = Vec::new();
        for (gap, bytes) in parts {
            mappings.push(mapping(at + gap, bytes));
            at += gap + bytes;
        }
        let (pool, image) = layout(&mappings, per_page, levels);
        for address in mappings.iter().flat_map(|m| [m.start - 1, m.start, m.end - 1, m.end]) {
            let naive = mappings.iter().find(|m| m.start <= address && address < m.end).copied();
            prop_assert_eq!(find_mapping(&pool, &image, address), naive);
        }
    }

    #[test]
    fn pages_of_rubbish_answer_without_a_panic(
        rubbish in proptest::collection::vec(prop_oneof![0u32..8, any::<u32>()], PAGE_WORDS),
        numbers in any::<[u32; 8]>(),
        entries in prop_oneof![0u32..1024, any::<u32>()],
        levels in 0u32..4,
        places in proptest::collection::vec(any::<u64>(), 32),
    ) {
        let mut pool = Pool::new();
        for _ in 1..8 {
            pool.add(&rubbish, 0);
        }
        let rule_pages = numbers.map(|number| number % 9);
        let executable =
            Executable { state: EXECUTABLE_READY, root: numbers[0] % 9, entries, levels, rule_pages };
        let image = Image { page: numbers[1] % 9, entries, levels, ..Image::default() };
        for place in places {
            let _: Found = find_rule(&pool, &executable, place as u32);
            if let Some(mapping) = find_mapping(&pool, &image, place) {
                prop_assert!(mapping.start <= place && place < mapping.end && mapping.kind != 0);
            }
        }
    }
}
