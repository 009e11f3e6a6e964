//! An executable's unwind rows, sorted, each with the number of its rule.

use std::collections::HashMap;

use abi::{RULE_NONE, RULES_MAX, Rule};

/// Rows of one executable; the largest that people report has 2.8 million (ClickHouse).
pub const ROWS_MAX: usize = 8 << 20;
/// Different rules that are told apart while rows are read.
const RULES_SEEN_MAX: usize = UNKNOWN as usize;
/// While rows are read: nothing is known.
const UNKNOWN: u16 = u16::MAX;

/// Rows of one executable. Each holds from its offset up to the next one's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// (file offset, index into `rules` or [`RULE_NONE`]), rising, no two neighbours of the same rule. The last is
    /// [`RULE_NONE`].
    pub rows: Vec<(u32, u16)>,
    /// At most [`RULES_MAX`], the most used first.
    pub rules: Vec<Rule>,
    pub dropped: Dropped,
}

/// What did not become rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Entries that are malformed, larger than what is read, or of an unknown form.
    pub entries: u64,
    /// Entries of code that no executable segment holds below 4 GiB of the file.
    pub outside: u64,
    /// Rows beyond [`ROWS_MAX`].
    pub rows: u64,
    /// Rows whose rule is not among the [`RULES_MAX`] most used.
    pub rules: u64,
    /// Whether a limit on the work ended reading early.
    pub cut: bool,
}

/// Takes rows in order and merges neighbours.
#[derive(Debug)]
pub(crate) struct Builder {
    rows_max: usize,
    rows: Vec<(u32, u16)>,
    rules: Vec<Rule>,
    numbers: HashMap<Rule, u16>,
    last: Option<(Rule, u16)>,
    pub(crate) dropped: Dropped,
}

impl Builder {
    /// Takes at most `rows_max` rows.
    pub(crate) fn new(rows_max: usize) -> Self {
        Self {
            rows_max,
            rows: Vec::new(),
            rules: Vec::new(),
            numbers: HashMap::new(),
            last: None,
            dropped: Dropped::default(),
        }
    }

    /// From `offset` on `rule` holds, or nothing is known. A second row of one offset replaces the first; a row below
    /// the last one's offset is ignored. Whether there is room for more.
    pub(crate) fn push(&mut self, offset: u32, rule: Option<Rule>) -> bool {
        let number = rule.map_or(UNKNOWN, |rule| self.number(rule));
        match self.rows.last() {
            Some(&(last, _)) if offset < last => return true,
            Some(&(last, _)) if offset == last => {
                self.rows.pop();
            }
            _ => {}
        }
        if self.rows.last().map_or(UNKNOWN, |&(_, last)| last) == number {
            return true;
        }
        if self.is_full() {
            self.dropped.rows += 1;
            return false;
        }
        // The last row that there is room for ends the table.
        let is_last = self.rows.len() + 1 == self.rows_max;
        self.dropped.rows += u64::from(is_last && number != UNKNOWN);
        self.rows.push((offset, if is_last { UNKNOWN } else { number }));
        !is_last
    }

    /// Whether no more rows are taken.
    pub(crate) fn is_full(&self) -> bool {
        self.rows.len() >= self.rows_max
    }

    /// Numbers the rules by how often they are used.
    pub(crate) fn finish(self) -> Rows {
        let Self { rows_max: _, mut rows, rules, mut dropped, numbers: _, last: _ } = self;
        let mut uses = vec![0u32; rules.len()];
        for &(_, number) in &rows {
            if let Some(count) = uses.get_mut(usize::from(number)) {
                *count += 1;
            }
        }
        let mut order: Vec<u16> = (0..rules.len() as u16).collect();
        let used = |number: &u16| uses.get(usize::from(*number)).copied().unwrap_or_default();
        order.sort_by_key(|number| std::cmp::Reverse(used(number)));
        let kept = order.get(..RULES_MAX as usize).unwrap_or(&order);
        let mut renumbered = vec![RULE_NONE as u16; rules.len()];
        for (new, &old) in kept.iter().enumerate() {
            if let Some(number) = renumbered.get_mut(usize::from(old)) {
                *number = new as u16;
            }
        }
        for (_, number) in &mut rows {
            let old = *number;
            *number = renumbered.get(usize::from(old)).copied().unwrap_or(RULE_NONE as u16);
            dropped.rules += u64::from(old != UNKNOWN && u32::from(*number) == RULE_NONE);
        }
        rows.dedup_by_key(|row| row.1);
        if rows.first().is_some_and(|row| u32::from(row.1) == RULE_NONE) {
            rows.remove(0);
        }
        rows.shrink_to_fit();
        let rules = kept.iter().filter_map(|&old| rules.get(usize::from(old)).copied()).collect();
        Rows { rows, rules, dropped }
    }

    fn number(&mut self, rule: Rule) -> u16 {
        if let Some((last, number)) = self.last
            && last == rule
        {
            return number;
        }
        let next = self.rules.len();
        let number = match self.numbers.get(&rule) {
            Some(&number) => number,
            None if next < RULES_SEEN_MAX => {
                self.rules.push(rule);
                self.numbers.insert(rule, next as u16);
                next as u16
            }
            None => {
                self.dropped.rules += 1;
                UNKNOWN
            }
        };
        self.last = Some((rule, number));
        number
    }
}

#[cfg(test)]
mod tests {
    use abi::{CFA_REGISTER, FP_SAME, RA_BELOW_CFA};

    use super::*;

    fn rule(offset: i32) -> Rule {
        Rule::of(CFA_REGISTER, 7, FP_SAME, RA_BELOW_CFA, 0, offset)
    }

    fn built(pushes: &[(u32, Option<Rule>)]) -> Vec<(u32, Option<Rule>)> {
        let mut builder = Builder::new(ROWS_MAX);
        for &(offset, rule) in pushes {
            assert!(builder.push(offset, rule));
        }
        let rows = builder.finish();
        rows.rows
            .iter()
            .map(|&(offset, number)| (offset, rows.rules.get(usize::from(number)).copied()))
            .collect()
    }

    #[test]
    fn neighbours_of_one_rule_are_one_row_and_the_last_of_an_offset_wins() {
        let rows = built(&[
            (0, None),
            (4, Some(rule(8))),
            (8, Some(rule(8))),
            (12, Some(rule(16))),
            (12, Some(rule(8))),
            (16, Some(rule(24))),
            (16, Some(rule(16))),
            (14, Some(rule(64))),
            (20, None),
            (24, None),
        ]);
        assert_eq!(rows, [(4, Some(rule(8))), (16, Some(rule(16))), (20, None)]);
    }

    #[test]
    fn the_rarest_rules_are_given_up_when_there_are_too_many() {
        let mut builder = Builder::new(ROWS_MAX);
        let many = RULES_MAX as i32 + 10;
        for offset in 0..many * 2 {
            // Each of the first ten rules has one row, each other two.
            let number = if offset < many { offset } else { 10 + (offset - many) % (many - 10) };
            builder.push(offset as u32, Some(rule(number)));
        }
        builder.push(many as u32 * 2, None);
        let rows = builder.finish();
        assert_eq!(rows.rules.len(), RULES_MAX as usize);
        assert_eq!(rows.dropped.rules, 10);
        assert!((0..10).all(|rare| !rows.rules.contains(&rule(rare))));
        assert_eq!(rows.rows.first().map(|row| row.0), Some(10));
    }

    #[test]
    fn behind_the_last_row_that_there_is_room_for_nothing_is_known() {
        const ROWS: usize = 100;
        let mut builder = Builder::new(ROWS);
        for offset in 0..ROWS as u32 + 2 {
            builder.push(offset, Some(rule(8 * (offset % 2) as i32)));
        }
        assert!(builder.is_full());
        let rows = builder.finish();
        assert_eq!(rows.dropped.rows, 3);
        assert_eq!(rows.rows.len(), ROWS);
        assert_eq!(rows.rows.last(), Some(&(ROWS as u32 - 1, RULE_NONE as u16)));
    }
}
