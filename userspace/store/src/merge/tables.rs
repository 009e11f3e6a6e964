//! The distinct strings, functions, locations and label sets of a merged profile, by content and within limits.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;

use super::Limits;

/// Why a sample cannot be merged as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reject {
    /// It refers to something that its profile does not have.
    Invalid,
    /// It needs more than the limits leave.
    Full,
}

/// Numbers distinct values from 0 in order of first sight.
#[derive(Debug)]
pub(super) struct Interner<T> {
    ids: HashMap<T, u32, RandomState>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { ids: HashMap::default() }
    }
}

impl<T: Eq + Hash> Interner<T> {
    /// The number of `key`; a new one costs what `pay` agrees to.
    fn intern<Q>(&mut self, key: &Q, pay: impl FnOnce() -> Result<(), Reject>) -> Result<u32, Reject>
    where
        T: Borrow<Q> + for<'a> From<&'a Q>,
        Q: Eq + Hash + ?Sized,
    {
        if let Some(&id) = self.ids.get(key) {
            return Ok(id);
        }
        let id = u32::try_from(self.ids.len()).map_err(|_overflow| Reject::Full)?;
        pay()?;
        self.ids.insert(T::from(key), id);
        Ok(id)
    }

    /// All values, each at the index that is its number.
    pub(super) fn by_id<Q: ?Sized>(&self) -> Vec<&Q>
    where
        T: Borrow<Q>,
    {
        let mut entries: Vec<(&Q, u32)> = self.ids.iter().map(|(value, id)| (value.borrow(), *id)).collect();
        entries.sort_unstable_by_key(|(_, id)| *id);
        entries.into_iter().map(|(value, _)| value).collect()
    }
}

/// Name, system name and file name are strings' numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Function {
    pub(super) name: u32,
    pub(super) system_name: u32,
    pub(super) filename: u32,
    pub(super) start_line: i64,
}

impl From<&Function> for Function {
    fn from(function: &Function) -> Self {
        *function
    }
}

/// `key`, `str` and `num_unit` are strings' numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Label {
    pub(super) key: u32,
    pub(super) str: u32,
    pub(super) num: i64,
    pub(super) num_unit: u32,
}

/// File name and build id are strings' numbers; what is not part of the identity stands in [`MappingExtent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Mapping {
    pub(super) filename: u32,
    pub(super) build_id: u32,
}

impl From<&Mapping> for Mapping {
    fn from(mapping: &Mapping) -> Self {
        *mapping
    }
}

/// The end of the file's mapped part, and what is known of all its locations.
#[derive(Debug, Clone, Copy)]
pub(super) struct MappingExtent {
    pub(super) limit: u64,
    pub(super) has_functions: bool,
    pub(super) has_filenames: bool,
    pub(super) has_line_numbers: bool,
    pub(super) has_inline_frames: bool,
}

/// Words of a location's key: mapping number + 1 or 0, address, folded, then three for each line.
pub(super) const LOCATION_HEAD_WORDS: usize = 3;
/// Words of one line in a location's key: function number, line, column.
pub(super) const LOCATION_LINE_WORDS: usize = 3;

#[derive(Debug)]
struct Budget {
    frames_left: usize,
    string_bytes_left: usize,
}

impl Budget {
    fn pay_frames(&mut self, frames: usize) -> Result<(), Reject> {
        self.frames_left = self.frames_left.checked_sub(frames).ok_or(Reject::Full)?;
        Ok(())
    }

    fn pay_string(&mut self, bytes: usize) -> Result<(), Reject> {
        // What the table's entry itself takes counts too, or empty-handed strings would be free.
        let cost = bytes.saturating_add(size_of::<(Box<str>, u32)>());
        self.string_bytes_left = self.string_bytes_left.checked_sub(cost).ok_or(Reject::Full)?;
        Ok(())
    }
}

/// Everything the stacks of a merged profile refer to.
#[derive(Debug)]
pub(super) struct Tables {
    budget: Budget,
    stacks_max: usize,
    pub(super) strings: Interner<Box<str>>,
    pub(super) mappings: Interner<Mapping>,
    pub(super) extents: Vec<MappingExtent>,
    pub(super) functions: Interner<Function>,
    pub(super) locations: Interner<Box<[u64]>>,
    pub(super) label_sets: Interner<Box<[Label]>>,
    /// Label set's number, then locations' numbers leaf first, to value.
    pub(super) stacks: HashMap<Box<[u32]>, i64, RandomState>,
}

impl Tables {
    pub(super) fn new(limits: Limits) -> Self {
        let budget = Budget { frames_left: limits.frames_max, string_bytes_left: limits.string_bytes_max };
        let mut strings = Interner::default();
        // The format wants the empty string at index 0.
        strings.ids.insert(Box::from(""), 0);
        Self {
            budget,
            stacks_max: limits.stacks_max,
            strings,
            mappings: Interner::default(),
            extents: Vec::new(),
            functions: Interner::default(),
            locations: Interner::default(),
            label_sets: Interner::default(),
            stacks: HashMap::default(),
        }
    }

    pub(super) fn string(&mut self, value: &str) -> Result<u32, Reject> {
        self.strings.intern(value, || self.budget.pay_string(value.len()))
    }

    pub(super) fn mapping(&mut self, key: Mapping, extent: MappingExtent) -> Result<u32, Reject> {
        let id = self.mappings.intern(&key, || self.budget.pay_frames(1))?;
        match self.extents.get_mut(id as usize) {
            None => self.extents.push(extent),
            Some(known) => {
                known.limit = known.limit.max(extent.limit);
                known.has_functions &= extent.has_functions;
                known.has_filenames &= extent.has_filenames;
                known.has_line_numbers &= extent.has_line_numbers;
                known.has_inline_frames &= extent.has_inline_frames;
            }
        }
        Ok(id)
    }

    pub(super) fn function(&mut self, key: Function) -> Result<u32, Reject> {
        self.functions.intern(&key, || self.budget.pay_frames(1))
    }

    pub(super) fn location(&mut self, words: &[u64]) -> Result<u32, Reject> {
        self.locations.intern(words, || self.budget.pay_frames(words.len() / LOCATION_LINE_WORDS))
    }

    pub(super) fn label_set(&mut self, labels: &[Label]) -> Result<u32, Reject> {
        self.label_sets.intern(labels, || self.budget.pay_frames(labels.len() + 1))
    }

    /// Whether a stack not seen yet may still be added. When not, nothing else may grow on its behalf.
    pub(super) fn stacks_full(&self) -> bool {
        self.stacks.len() >= self.stacks_max
    }

    pub(super) fn stack(&mut self, key: &[u32], value: i64) -> Result<(), Reject> {
        if let Some(total) = self.stacks.get_mut(key) {
            *total = total.saturating_add(value);
            return Ok(());
        }
        if self.stacks_full() {
            return Err(Reject::Full);
        }
        self.budget.pay_frames(key.len())?;
        self.stacks.insert(Box::from(key), value);
        Ok(())
    }

    /// From here on only what is already known is found.
    pub(super) fn close(&mut self) {
        self.budget = Budget { frames_left: 0, string_bytes_left: 0 };
    }
}
