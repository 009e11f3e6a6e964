//! Rows in pages, as the kernel programs look them up: a root, pages of rules, index pages, leaves.

use abi::{
    EXECUTABLE_READY, EXECUTABLE_UNREADABLE, Executable, INDEX_ENTRIES_MAX, LEAF_ROWS_MAX, LEAF_SPAN_BYTES,
    PAGE_NONE, PAGE_WORDS, Page, ROW_UNUSED, RULE_NONE, RULES_PER_PAGE, Rule, row, rule_place,
};

use crate::{Error, Rows};

/// How many pages the rows take; 0 when there are none.
pub fn needed(rows: &Rows) -> usize {
    Shape::of(rows).pages()
}

/// Writes the rows into pages of the given numbers, each page once and the root last, one page in memory at a time.
/// No rows give an executable that is marked unreadable.
pub fn fill(rows: &Rows, numbers: &[u32], mut write: impl FnMut(u32, &Page)) -> Result<Executable, Error> {
    let shape = Shape::of(rows);
    if numbers.len() != shape.pages() {
        return Err(Error::Pages { given: numbers.len(), needed: shape.pages() });
    }
    let Some((&root, rest)) = numbers.split_first() else {
        return Ok(Executable { state: EXECUTABLE_UNREADABLE, ..Executable::default() });
    };
    let mut executable = Executable { state: EXECUTABLE_READY, root, levels: 1, ..Executable::default() };
    let mut rest = rest.iter().copied();
    let mut page: Page = [0; PAGE_WORDS];

    if shape.shares_root {
        executable.rule_pages = std::array::from_fn(|index| if index == 0 { root } else { PAGE_NONE });
    }
    let chunks = rows.rules.chunks(RULES_PER_PAGE as usize).zip(&mut executable.rule_pages);
    for ((chunk, slot), number) in chunks.take(shape.rule_pages).zip(rest.by_ref()) {
        page.fill(0);
        write_rules(chunk, &mut page);
        write(number, &page);
        *slot = number;
    }
    let index_numbers: Vec<u32> = rest.by_ref().take(shape.index_pages).collect();
    let mut entries = Vec::with_capacity(shape.leaves);
    let mut leaves = Leaves::new(rows);
    for number in rest {
        let Some(base) = leaves.next(&mut page) else { break };
        write(number, &page);
        entries.push((base, number));
    }
    if shape.index_pages > 0 {
        executable.levels = 2;
        let leaf_entries = std::mem::take(&mut entries);
        for (&number, chunk) in index_numbers.iter().zip(leaf_entries.chunks(INDEX_ENTRIES_MAX)) {
            write_entries(chunk, &mut page);
            write(number, &page);
            entries.extend(chunk.first().map(|&(base, _)| (base, number)));
        }
    }
    write_entries(&entries, &mut page);
    if shape.shares_root {
        write_rules(&rows.rules, &mut page);
    }
    write(root, &page);
    executable.entries = entries.len() as u32;
    Ok(executable)
}

/// As [`fill`], with all pages in memory, in the order of `numbers`.
pub fn pack(rows: &Rows, numbers: &[u32]) -> Result<(Vec<(u32, Page)>, Executable), Error> {
    let mut pages = Vec::with_capacity(numbers.len());
    let executable = fill(rows, numbers, |number, page| pages.push((number, *page)))?;
    Ok((pages, executable))
}

/// How many pages of each kind there are.
#[derive(Debug, Clone, Copy)]
struct Shape {
    leaves: usize,
    index_pages: usize,
    rule_pages: usize,
    /// The rules lie in the root page, behind its entries.
    shares_root: bool,
}

impl Shape {
    fn of(rows: &Rows) -> Self {
        let (mut leaves, mut page, mut count) = (Leaves::new(rows), [0; PAGE_WORDS], 0);
        while leaves.next(&mut page).is_some() {
            count += 1;
        }
        let index_pages = if count > INDEX_ENTRIES_MAX { count.div_ceil(INDEX_ENTRIES_MAX) } else { 0 };
        let entries = if index_pages > 0 { index_pages } else { count };
        let rules = rows.rules.len();
        let shares_root = 2 * entries + 2 * rules <= PAGE_WORDS;
        let rule_pages = if shares_root { 0 } else { rules.div_ceil(RULES_PER_PAGE as usize) };
        Self { leaves: count, index_pages, rule_pages, shares_root }
    }

    fn pages(&self) -> usize {
        if self.leaves == 0 { 0 } else { 1 + self.rule_pages + self.index_pages + self.leaves }
    }
}

/// Cuts rows into leaves, each as long as it can be.
#[derive(Debug)]
struct Leaves<'a> {
    rows: &'a [(u32, u16)],
    /// Where the last leaf's rule goes on although its offsets end.
    carried: Option<(u32, u16)>,
}

impl<'a> Leaves<'a> {
    fn new(rows: &'a Rows) -> Self {
        Self { rows: &rows.rows, carried: None }
    }

    /// Writes the next leaf; its first offset.
    fn next(&mut self, page: &mut Page) -> Option<u32> {
        let first = self.carried.take().or_else(|| self.take(u32::MAX))?;
        page.fill(ROW_UNUSED);
        let (base, mut last) = first;
        let mut words = page.iter_mut();
        if let Some(word) = words.next() {
            *word = row(0, u32::from(last));
        }
        for word in words.take(LEAF_ROWS_MAX - 1) {
            let Some((offset, rule)) = self.take(base.saturating_add(LEAF_SPAN_BYTES)) else { break };
            *word = row(offset - base, u32::from(rule));
            last = rule;
        }
        // A look-up that far from the leaf's first offset would find the unused words.
        if let (Some(end), Some(&(next, _))) = (base.checked_add(LEAF_SPAN_BYTES), self.rows.first())
            && u32::from(last) != RULE_NONE
            && end < next
        {
            self.carried = Some((end, last));
        }
        Some(base)
    }

    /// The next row, when its offset is below `end` (at most it, for the first row of a leaf).
    fn take(&mut self, end: u32) -> Option<(u32, u16)> {
        let (&first, rest) = self.rows.split_first()?;
        if first.0 >= end && end != u32::MAX {
            return None;
        }
        self.rows = rest;
        Some(first)
    }
}

fn write_entries(entries: &[(u32, u32)], page: &mut Page) {
    for (words, entry) in
        page.chunks_exact_mut(2).zip(entries.iter().map(Some).chain(std::iter::repeat(None)))
    {
        let (base, number) = entry.copied().unwrap_or((u32::MAX, PAGE_NONE));
        words.copy_from_slice(&[base, number]);
    }
}

/// `rules` are those of one page.
fn write_rules(rules: &[Rule], page: &mut Page) {
    for (number, rule) in rules.iter().enumerate() {
        let (_, word) = rule_place(number as u32);
        if let Some(words) = page.get_mut(word..word + 2) {
            words.copy_from_slice(&rule.words());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use abi::{CFA_REGISTER, FP_SAME, RA_BELOW_CFA, RULES_MAX, row_offset, row_rule};

    use super::*;

    /// Rows (offset, rule or none) with as many rules as they name.
    fn rows(rows: Vec<(u32, u16)>) -> Rows {
        let count = rows.iter().map(|row| row.1).filter(|rule| u32::from(*rule) != RULE_NONE).max();
        let rules = (0..=count.unwrap_or_default())
            .map(|number| Rule::of(CFA_REGISTER, 7, FP_SAME, RA_BELOW_CFA, 0, i32::from(number)))
            .collect();
        Rows { rows, rules, ..Rows::default() }
    }

    /// The table as a reader has it that knows only the format.
    struct Table {
        pages: HashMap<u32, Page>,
        executable: Executable,
    }

    impl Table {
        fn of(rows: &Rows) -> Self {
            // Numbers in no order: nothing may depend on neighbours.
            let numbers: Vec<u32> = (0..needed(rows) as u32).map(|number| 1 + (number ^ 5)).collect();
            let (pages, executable) = pack(rows, &numbers).unwrap();
            assert_eq!(pages.len(), numbers.len());
            Self { pages: pages.into_iter().collect(), executable }
        }

        /// The rule's number, which is its `cfa_offset` here.
        fn find(&self, offset: u32) -> Option<u16> {
            let executable = &self.executable;
            let (mut page, mut entries) = (self.pages[&executable.root], executable.entries as usize);
            let mut base = 0;
            for _ in 0..executable.levels {
                let entry = page[..2 * entries].chunks(2).rfind(|entry| entry[0] <= offset)?;
                (base, page, entries) = (entry[0], self.pages[&entry[1]], INDEX_ENTRIES_MAX);
            }
            let row = page.iter().rfind(|row| row_offset(**row) <= offset - base)?;
            if row_rule(*row) == RULE_NONE {
                return None;
            }
            let (index, word) = rule_place(row_rule(*row));
            let rules = self.pages[&executable.rule_pages[index]];
            Some(Rule::from_words([rules[word], rules[word + 1]]).cfa_offset as u16)
        }

        fn agrees(&self, rows: &Rows) {
            let mut before = None;
            for &(offset, rule) in &rows.rows {
                let rule = Some(rule).filter(|rule| u32::from(*rule) != RULE_NONE);
                assert_eq!(self.find(offset), rule, "at {offset:#x}");
                if let Some(below) = offset.checked_sub(1) {
                    assert_eq!(self.find(below), before, "at {below:#x}");
                }
                before = rule;
            }
            assert_eq!(self.find(u32::MAX - 1), before);
        }
    }

    const NONE: u16 = RULE_NONE as u16;

    #[test]
    fn no_rows_take_no_page_and_are_unreadable() {
        let rows = Rows::default();
        assert_eq!(needed(&rows), 0);
        let executable = fill(&rows, &[], |_, _| panic!("no page")).unwrap();
        assert_eq!(executable.state, EXECUTABLE_UNREADABLE);
    }

    #[test]
    fn another_number_of_pages_is_an_error() {
        let rows = rows(vec![(0, 0), (16, NONE)]);
        assert!(matches!(fill(&rows, &[1], |_, _| {}), Err(Error::Pages { given: 1, needed: 2 })));
    }

    #[test]
    fn a_small_table_is_a_root_with_its_rules_and_a_leaf() {
        let rows = rows(vec![(4096, 0), (4100, 1), (5000, NONE), (6000, 1), (6001, NONE)]);
        let table = Table::of(&rows);
        assert_eq!((table.pages.len(), table.executable.levels, table.executable.entries), (2, 1, 1));
        assert_eq!(table.executable.rule_pages[0], table.executable.root);
        table.agrees(&rows);
        assert_eq!(table.find(4095), None);
    }

    #[test]
    fn a_rule_holds_beyond_the_reach_of_its_leaf() {
        let far = LEAF_SPAN_BYTES * 3 + 7;
        let rows =
            rows(vec![(10, 0), (12, 1), (far, 0), (far + 1, NONE), (u32::MAX - 9, 1), (u32::MAX - 5, NONE)]);
        let table = Table::of(&rows);
        table.agrees(&rows);
        for offset in [LEAF_SPAN_BYTES + 9, LEAF_SPAN_BYTES + 10, 2 * LEAF_SPAN_BYTES + 10, far - 1] {
            assert_eq!(table.find(offset), Some(1), "at {offset:#x}");
        }
    }

    #[test]
    fn a_full_leaf_and_the_one_behind_it_agree_at_their_border() {
        for extra in 0..3 {
            let count = LEAF_ROWS_MAX as u32 * 2 + extra;
            let mut all: Vec<_> = (0..count - 1).map(|index| (index * 2 + 64, (index % 3) as u16)).collect();
            all.push((count * 2 + 64, NONE));
            Table::of(&rows(all.clone())).agrees(&rows(all));
        }
    }

    #[test]
    fn many_leaves_get_index_pages_and_many_rules_pages_of_their_own() {
        let leaves = INDEX_ENTRIES_MAX as u32 + 3;
        let mut all: Vec<_> = (0..leaves).map(|leaf| (leaf * LEAF_SPAN_BYTES, (leaf % 700) as u16)).collect();
        all.push((leaves * LEAF_SPAN_BYTES, NONE));
        let rows = rows(all);
        let table = Table::of(&rows);
        assert_eq!((table.executable.levels, table.executable.entries), (2, 2));
        assert_eq!(table.pages.len(), 1 + 2 + 2 + leaves as usize + 1);
        table.agrees(&rows);
    }

    #[test]
    fn every_rule_that_is_allowed_has_its_place() {
        let mut all: Vec<_> = (0..RULES_MAX).map(|rule| (rule * 4, rule as u16)).collect();
        all.push((RULES_MAX * 4, NONE));
        let rows = rows(all);
        let table = Table::of(&rows);
        assert!(table.executable.rule_pages.iter().all(|page| *page != 0 && *page != table.executable.root));
        table.agrees(&rows);
    }
}
