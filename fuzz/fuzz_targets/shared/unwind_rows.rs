//! What holds for the rows of every file, and for their pages.

use std::collections::HashMap;

use abi::{EXECUTABLE_READY, EXECUTABLE_UNREADABLE, RULE_NONE, RULES_MAX, Rule};
use tables::Rows;
use unwind::{Found, Pages};

/// Rows that are looked up, and pages that are kept for it.
const LOOKED_UP_MAX: usize = 4096;
const PAGES_MAX: usize = 256;

struct Pool(HashMap<u32, abi::Page>);

impl Pages for Pool {
    fn page(&self, number: u32) -> Option<&abi::Page> {
        self.0.get(&number)
    }
}

/// Rows rise, neighbours differ, the last one ends the table; each is found in the pages, and holds until the next.
pub(crate) fn check(rows: &Rows) {
    assert!(rows.rows.len() <= tables::ROWS_MAX && rows.rules.len() <= RULES_MAX as usize);
    assert!(rows.rows.is_sorted_by(|one, next| one.0 < next.0 && one.1 != next.1));
    let rule = |number: u16| -> Option<Rule> {
        let known = rows.rules.get(usize::from(number)).copied();
        assert!(known.is_some() || u32::from(number) == RULE_NONE);
        known
    };
    assert!(rows.rows.last().is_none_or(|last| rule(last.1).is_none()));
    let needed = tables::needed(rows);
    if needed > PAGES_MAX {
        return;
    }
    let numbers: Vec<u32> = (1..).take(needed).collect();
    let (pages, executable) = tables::pack(rows, &numbers).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(pages.len(), needed);
    if rows.rows.is_empty() {
        assert_eq!(executable.state, EXECUTABLE_UNREADABLE);
        return;
    }
    assert_eq!(executable.state, EXECUTABLE_READY);
    let pool = Pool(pages.into_iter().collect());
    for pair in rows.rows.windows(2).take(LOOKED_UP_MAX) {
        let expected = rule(pair[0].1).map_or(Found::NoRow, Found::Rule);
        for offset in [pair[0].0, pair[1].0 - 1] {
            assert_eq!(unwind::find_rule(&pool, &executable, offset), expected, "at {offset:#x}");
        }
    }
}
