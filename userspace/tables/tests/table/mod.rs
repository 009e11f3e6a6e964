//! A packed table, looked up as the kernel programs look it up.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use abi::{Executable, Page, Rule};
use unwind::{Found, Pages};

pub(crate) struct Table {
    pages: Pool,
    executable: Executable,
}

struct Pool(HashMap<u32, Page>);

impl Pages for Pool {
    fn page(&self, number: u32) -> Option<&Page> {
        self.0.get(&number)
    }
}

impl Table {
    pub(crate) fn of(path: &Path) -> Self {
        Self::packed(&tables::read(&File::open(path).unwrap()).unwrap())
    }

    pub(crate) fn packed(rows: &tables::Rows) -> Self {
        // Numbers in no order: nothing may depend on neighbours.
        let numbers: Vec<u32> = (0..tables::needed(rows) as u32).map(|number| 8 + (number ^ 7)).collect();
        let (pages, executable) = tables::pack(rows, &numbers).unwrap();
        Self { pages: Pool(pages.into_iter().collect()), executable }
    }

    pub(crate) fn find(&self, offset: u32) -> Option<Rule> {
        match unwind::find_rule(&self.pages, &self.executable, offset) {
            Found::Rule(rule) => Some(rule),
            Found::NoRow => None,
            Found::NoTable(end) => panic!("at {offset:#x}: {end:?}"),
        }
    }
}
