//! The merged profile as a pprof message that holds nothing its samples do not refer to.

use std::collections::HashMap;

use model::pprof;

use super::tables::{Function, LOCATION_HEAD_WORDS, LOCATION_LINE_WORDS, Label, Mapping, Tables};

/// Name of the one frame that stands for all stacks over a limit.
pub const TRUNCATED: &str = "(truncated)";

/// Writes the messages of a profile in order of first use.
pub(super) struct Output<'a> {
    strings: Vec<&'a str>,
    mappings: Vec<&'a Mapping>,
    functions: Vec<&'a Function>,
    locations: Vec<&'a [u64]>,
    label_sets: Vec<&'a [Label]>,
    tables: &'a Tables,
    string_ids: Vec<i64>,
    mapping_ids: Vec<u64>,
    function_ids: Vec<u64>,
    location_ids: Vec<u64>,
    own_strings: HashMap<&'static str, i64>,
    profile: pprof::Profile,
}

impl<'a> Output<'a> {
    pub(super) fn new(tables: &'a Tables) -> Self {
        let strings = tables.strings.by_id();
        let mappings = tables.mappings.by_id();
        let functions = tables.functions.by_id();
        let locations = tables.locations.by_id();
        Self {
            string_ids: vec![0; strings.len()],
            mapping_ids: vec![0; mappings.len()],
            function_ids: vec![0; functions.len()],
            location_ids: vec![0; locations.len()],
            strings,
            mappings,
            functions,
            locations,
            label_sets: tables.label_sets.by_id(),
            tables,
            own_strings: HashMap::new(),
            profile: pprof::Profile { string_table: vec![String::new()], ..Default::default() },
        }
    }

    /// All stacks, largest first, then the truncated rest.
    pub(super) fn write(mut self, truncated_ns: Option<i64>) -> pprof::Profile {
        let mut stacks: Vec<(&[u32], i64)> =
            self.tables.stacks.iter().map(|(stack, value)| (stack.as_ref(), *value)).collect();
        stacks.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        self.profile.sample.reserve(stacks.len() + 1);
        for (stack, value) in stacks {
            let Some((labels, frames)) = stack.split_first() else { continue };
            let location_id = frames.iter().map(|frame| self.location(*frame)).collect();
            let label = self.labels(*labels);
            self.profile.sample.push(pprof::Sample { location_id, value: vec![value], label });
        }
        if let Some(value) = truncated_ns {
            let location_id = vec![self.truncated_location()];
            self.profile.sample.push(pprof::Sample { location_id, value: vec![value], label: Vec::new() });
        }
        let cpu = self.own_string(super::SAMPLE_TYPE);
        let nanoseconds = self.own_string(super::SAMPLE_UNIT);
        self.profile.sample_type = vec![pprof::ValueType { r#type: cpu, unit: nanoseconds }];
        self.profile.period_type = Some(pprof::ValueType { r#type: cpu, unit: nanoseconds });
        self.profile
    }

    fn string(&mut self, id: u32) -> i64 {
        let at = id as usize;
        let value = self.strings[at];
        if self.string_ids[at] == 0 && !value.is_empty() {
            self.string_ids[at] = push(&mut self.profile.string_table, value.to_owned()).cast_signed();
        }
        self.string_ids[at]
    }

    fn own_string(&mut self, value: &'static str) -> i64 {
        let table = &mut self.profile.string_table;
        *self.own_strings.entry(value).or_insert_with(|| push(table, value.to_owned()).cast_signed())
    }

    fn mapping(&mut self, id: u32) -> u64 {
        let at = id as usize;
        if self.mapping_ids[at] == 0 {
            let (key, extent) = (*self.mappings[at], self.tables.extents[at]);
            let mapping = pprof::Mapping {
                id: self.profile.mapping.len() as u64 + 1,
                memory_start: 0,
                memory_limit: extent.limit,
                file_offset: 0,
                filename: self.string(key.filename),
                build_id: self.string(key.build_id),
                has_functions: extent.has_functions,
                has_filenames: extent.has_filenames,
                has_line_numbers: extent.has_line_numbers,
                has_inline_frames: extent.has_inline_frames,
            };
            self.mapping_ids[at] = push(&mut self.profile.mapping, mapping) + 1;
        }
        self.mapping_ids[at]
    }

    fn function(&mut self, id: u32) -> u64 {
        let at = id as usize;
        if self.function_ids[at] == 0 {
            let key = *self.functions[at];
            let function = pprof::Function {
                id: self.profile.function.len() as u64 + 1,
                name: self.string(key.name),
                system_name: self.string(key.system_name),
                filename: self.string(key.filename),
                start_line: key.start_line,
            };
            self.function_ids[at] = push(&mut self.profile.function, function) + 1;
        }
        self.function_ids[at]
    }

    fn location(&mut self, id: u32) -> u64 {
        let at = id as usize;
        if self.location_ids[at] == 0 {
            let (head, lines) = self.locations[at].split_at(LOCATION_HEAD_WORDS);
            let line = lines.chunks_exact(LOCATION_LINE_WORDS).map(|words| pprof::Line {
                function_id: self.function(words[0] as u32),
                line: words[1].cast_signed(),
                column: words[2].cast_signed(),
            });
            let line = line.collect();
            let location = pprof::Location {
                id: self.profile.location.len() as u64 + 1,
                mapping_id: head[0].checked_sub(1).map_or(0, |mapping| self.mapping(mapping as u32)),
                address: head[1],
                line,
                is_folded: head[2] != 0,
            };
            self.location_ids[at] = push(&mut self.profile.location, location) + 1;
        }
        self.location_ids[at]
    }

    fn labels(&mut self, id: u32) -> Vec<pprof::Label> {
        let set = self.label_sets[id as usize];
        let label = set.iter().map(|label| pprof::Label {
            key: self.string(label.key),
            str: self.string(label.str),
            num: label.num,
            num_unit: self.string(label.num_unit),
        });
        label.collect()
    }

    fn truncated_location(&mut self) -> u64 {
        let name = self.own_string(TRUNCATED);
        let function_id = self.profile.function.len() as u64 + 1;
        self.profile.function.push(pprof::Function { id: function_id, name, ..Default::default() });
        let id = self.profile.location.len() as u64 + 1;
        let line = vec![pprof::Line { function_id, ..Default::default() }];
        self.profile.location.push(pprof::Location { id, line, ..Default::default() });
        id
    }
}

/// The index of the new element.
fn push<T>(list: &mut Vec<T>, element: T) -> u64 {
    list.push(element);
    list.len() as u64 - 1
}
