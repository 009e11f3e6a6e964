//! One profile's ids, checked and translated into the merged profile's numbers.

use std::collections::HashMap;

use model::pprof;

use super::tables::{Function, LOCATION_HEAD_WORDS, LOCATION_LINE_WORDS, Label, Mapping, MappingExtent};
use super::tables::{Reject, Tables};
use super::{Frames, KERNEL_MAPPING};

type Memo = Vec<Option<Result<u32, Reject>>>;

/// Ids of a profile's messages to their indexes; ids are nearly always 1, 2, 3 …
enum IdIndex {
    Dense(usize),
    Sparse(HashMap<u64, usize>),
}

impl IdIndex {
    fn new(ids: impl Iterator<Item = u64> + Clone) -> Self {
        if ids.clone().zip(1u64..).all(|(id, expected)| id == expected) {
            return Self::Dense(ids.count());
        }
        let mut index = HashMap::new();
        for (at, id) in ids.enumerate() {
            index.entry(id).or_insert(at);
        }
        Self::Sparse(index)
    }

    fn get(&self, id: u64) -> Option<usize> {
        // 0 is "none" in the format, never a message's id.
        let before = id.checked_sub(1)?;
        match self {
            Self::Dense(len) => usize::try_from(before).ok().filter(|at| at < len),
            Self::Sparse(index) => index.get(&id).copied(),
        }
    }
}

/// Translates the samples of one profile.
pub(super) struct Resolver<'a> {
    profile: &'a pprof::Profile,
    keep: Frames,
    mapping_index: IdIndex,
    function_index: IdIndex,
    location_index: IdIndex,
    kernel_mappings: Vec<bool>,
    strings: Memo,
    mappings: Memo,
    functions: Memo,
    locations: Memo,
    location_words: Vec<u64>,
    labels: Vec<Label>,
    /// The labels of the sample before, and their number: neighbours mostly have the same.
    labels_before: Option<(&'a [pprof::Label], u32)>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(profile: &'a pprof::Profile, keep: Frames) -> Self {
        let is_kernel = |mapping: &pprof::Mapping| string(profile, mapping.filename) == Ok(KERNEL_MAPPING);
        Self {
            profile,
            keep,
            mapping_index: IdIndex::new(profile.mapping.iter().map(|mapping| mapping.id)),
            function_index: IdIndex::new(profile.function.iter().map(|function| function.id)),
            location_index: IdIndex::new(profile.location.iter().map(|location| location.id)),
            kernel_mappings: profile.mapping.iter().map(is_kernel).collect(),
            strings: vec![None; profile.string_table.len()],
            mappings: vec![None; profile.mapping.len()],
            functions: vec![None; profile.function.len()],
            locations: vec![None; profile.location.len()],
            location_words: Vec::new(),
            labels: Vec::new(),
            labels_before: None,
        }
    }

    /// Appends the kept locations of a sample to `stack`.
    pub(super) fn frames(
        &mut self,
        tables: &mut Tables,
        sample: &pprof::Sample,
        stack: &mut Vec<u32>,
    ) -> Result<(), Reject> {
        let mut full = false;
        for id in &sample.location_id {
            let at = self.location_index.get(*id).ok_or(Reject::Invalid)?;
            if !self.keeps(at)? {
                continue;
            }
            match self.location(tables, at) {
                Ok(location) => stack.push(location),
                // Go on: a later frame may still show that the sample is invalid.
                Err(Reject::Full) => full = true,
                Err(Reject::Invalid) => return Err(Reject::Invalid),
            }
        }
        if full { Err(Reject::Full) } else { Ok(()) }
    }

    /// The label set of a sample; an extra label replaces the sample's own of the same name. `extra` is the same
    /// for all samples of the profile.
    pub(super) fn labels(
        &mut self,
        tables: &mut Tables,
        sample: &'a pprof::Sample,
        extra: &[(&str, &str)],
    ) -> Result<u32, Reject> {
        if let Some((labels, known)) = self.labels_before
            && labels == sample.label
        {
            return Ok(known);
        }
        let mut labels = std::mem::take(&mut self.labels);
        labels.clear();
        let result = self.fill_labels(tables, sample, extra, &mut labels);
        self.labels = labels;
        result?;
        self.labels.sort_unstable();
        self.labels.dedup();
        let id = tables.label_set(&self.labels)?;
        self.labels_before = Some((&sample.label, id));
        Ok(id)
    }

    fn fill_labels(
        &mut self,
        tables: &mut Tables,
        sample: &pprof::Sample,
        extra: &[(&str, &str)],
        labels: &mut Vec<Label>,
    ) -> Result<(), Reject> {
        for (key, value) in extra {
            labels.push(Label { key: tables.string(key)?, str: tables.string(value)?, num: 0, num_unit: 0 });
        }
        for label in &sample.label {
            let name = string(self.profile, label.key)?;
            if extra.iter().any(|(key, _)| *key == name) {
                continue;
            }
            labels.push(Label {
                key: self.string(tables, label.key)?,
                str: self.string(tables, label.str)?,
                num: label.num,
                num_unit: self.string(tables, label.num_unit)?,
            });
        }
        Ok(())
    }

    fn keeps(&self, location_at: usize) -> Result<bool, Reject> {
        if self.keep == Frames::All {
            return Ok(true);
        }
        let location = self.profile.location.get(location_at).ok_or(Reject::Invalid)?;
        let is_kernel = self
            .mapping_index
            .get(location.mapping_id)
            .and_then(|at| self.kernel_mappings.get(at))
            .copied()
            .unwrap_or(false);
        Ok(is_kernel == (self.keep == Frames::Kernel))
    }

    fn string(&mut self, tables: &mut Tables, index: i64) -> Result<u32, Reject> {
        let value = string(self.profile, index)?;
        let memo = usize::try_from(index).ok().and_then(|at| self.strings.get_mut(at));
        remember(memo, || tables.string(value))
    }

    fn location(&mut self, tables: &mut Tables, at: usize) -> Result<u32, Reject> {
        if let Some(Some(known)) = self.locations.get(at) {
            return *known;
        }
        let result = self.new_location(tables, at);
        remember(self.locations.get_mut(at), || result)
    }

    fn new_location(&mut self, tables: &mut Tables, at: usize) -> Result<u32, Reject> {
        let profile = self.profile;
        let location = profile.location.get(at).ok_or(Reject::Invalid)?;
        let (mapping, address) = self.place(tables, location)?;
        let mut words = std::mem::take(&mut self.location_words);
        words.clear();
        words.reserve(LOCATION_HEAD_WORDS + location.line.len() * LOCATION_LINE_WORDS);
        words.extend([mapping, address, u64::from(location.is_folded)]);
        for line in &location.line {
            let function_at = self.function_index.get(line.function_id).ok_or(Reject::Invalid)?;
            let function = self.function(tables, function_at)?;
            words.extend([u64::from(function), line.line.cast_unsigned(), line.column.cast_unsigned()]);
        }
        let result = tables.location(&words);
        self.location_words = words;
        result
    }

    /// Mapping number + 1 (or 0), and the address as an offset in the mapped file, which is the same in every
    /// process whatever address the file was mapped at.
    fn place(&mut self, tables: &mut Tables, location: &pprof::Location) -> Result<(u64, u64), Reject> {
        if location.mapping_id == 0 {
            return Ok((0, location.address));
        }
        let at = self.mapping_index.get(location.mapping_id).ok_or(Reject::Invalid)?;
        let profile = self.profile;
        let mapping = profile.mapping.get(at).ok_or(Reject::Invalid)?;
        let id = match self.mappings.get(at) {
            Some(Some(known)) => (*known)?,
            _ => {
                let result = self.new_mapping(tables, at, mapping);
                remember(self.mappings.get_mut(at), || result)?
            }
        };
        let address = match self.kernel_mappings.get(at) {
            Some(false) if (mapping.memory_start..mapping.memory_limit).contains(&location.address) => {
                (location.address - mapping.memory_start).wrapping_add(mapping.file_offset)
            }
            _ => location.address,
        };
        Ok((u64::from(id) + 1, address))
    }

    fn new_mapping(
        &mut self,
        tables: &mut Tables,
        at: usize,
        mapping: &pprof::Mapping,
    ) -> Result<u32, Reject> {
        let filename = self.string(tables, mapping.filename)?;
        let build_id = self.string(tables, mapping.build_id)?;
        let size = mapping.memory_limit.saturating_sub(mapping.memory_start);
        let limit = match self.kernel_mappings.get(at) {
            Some(true) => mapping.memory_limit,
            _ => size.saturating_add(mapping.file_offset),
        };
        let extent = MappingExtent {
            limit,
            has_functions: mapping.has_functions,
            has_filenames: mapping.has_filenames,
            has_line_numbers: mapping.has_line_numbers,
            has_inline_frames: mapping.has_inline_frames,
        };
        tables.mapping(Mapping { filename, build_id }, extent)
    }

    fn function(&mut self, tables: &mut Tables, at: usize) -> Result<u32, Reject> {
        if let Some(Some(known)) = self.functions.get(at) {
            return *known;
        }
        let result = self.new_function(tables, at);
        remember(self.functions.get_mut(at), || result)
    }

    fn new_function(&mut self, tables: &mut Tables, at: usize) -> Result<u32, Reject> {
        let profile = self.profile;
        let function = profile.function.get(at).ok_or(Reject::Invalid)?;
        let key = Function {
            name: self.string(tables, function.name)?,
            system_name: self.string(tables, function.system_name)?,
            filename: self.string(tables, function.filename)?,
            start_line: function.start_line,
        };
        tables.function(key)
    }
}

/// A string of the table; index 0 is the empty one also where the table is missing.
pub(super) fn string(profile: &pprof::Profile, index: i64) -> Result<&str, Reject> {
    if index == 0 {
        return Ok("");
    }
    let at = usize::try_from(index).map_err(|_negative| Reject::Invalid)?;
    profile.string_table.get(at).map(String::as_str).ok_or(Reject::Invalid)
}

fn remember(
    memo: Option<&mut Option<Result<u32, Reject>>>,
    find: impl FnOnce() -> Result<u32, Reject>,
) -> Result<u32, Reject> {
    match memo {
        Some(slot) => *slot.get_or_insert_with(find),
        None => find(),
    }
}
