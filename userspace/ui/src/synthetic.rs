//! Profiles for unit tests.

use std::collections::HashMap;

use model::pprof::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};

/// Collects stacks into a profile of cpu/nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    profile: Profile,
    strings: HashMap<String, i64>,
    locations: HashMap<String, u64>,
}

impl Builder {
    /// One location in `module` with its functions, innermost first.
    pub(crate) fn location(&mut self, module: &str, lines: &[(&str, &str, i64)]) -> u64 {
        let filename = self.string(module);
        let mapping_id = match self.profile.mapping.iter().find(|m| m.filename == filename) {
            Some(mapping) => mapping.id,
            None => {
                let id = self.profile.mapping.len() as u64 + 1;
                self.profile.mapping.push(Mapping { id, filename, ..Mapping::default() });
                id
            }
        };
        let mut line_list = Vec::new();
        for (name, file, line) in lines {
            let (name, filename) = (self.string(name), self.string(file));
            let id = self.profile.function.len() as u64 + 1;
            self.profile.function.push(Function { id, name, filename, ..Function::default() });
            line_list.push(Line { function_id: id, line: *line, ..Line::default() });
        }
        let id = self.profile.location.len() as u64 + 1;
        self.profile.location.push(Location { id, mapping_id, line: line_list, ..Location::default() });
        id
    }

    /// One sample, outermost function first, all of one executable.
    pub(crate) fn sample(&mut self, stack: &[&str], value_ns: i64, process: &str, container: Option<&str>) {
        let mut labels = vec![("process_name", process), ("service_name", process)];
        labels.extend(container.map(|id| ("container_id", id)));
        let label = labels
            .into_iter()
            .map(|(key, value)| Label { key: self.string(key), str: self.string(value), ..Label::default() })
            .collect();
        self.push(stack, value_ns, label);
    }

    /// One sample with a pid.
    pub(crate) fn sample_of_pid(&mut self, stack: &[&str], value_ns: i64, process: &str, pid: i64) {
        let name = Label { key: self.string("process_name"), str: self.string(process), ..Label::default() };
        let pid = Label { key: self.string("pid"), num: pid, ..Label::default() };
        self.push(stack, value_ns, vec![name, pid]);
    }

    /// One sample whose outermost frames are missing for a reason.
    pub(crate) fn sample_incomplete(&mut self, stack: &[&str], value_ns: i64, reason: &str) {
        let label = Label { key: self.string("incomplete"), str: self.string(reason), ..Label::default() };
        self.push(stack, value_ns, vec![label]);
    }

    /// The profile.
    pub(crate) fn finish(mut self) -> Profile {
        let (cpu, nanoseconds) = (self.string("cpu"), self.string("nanoseconds"));
        self.profile.sample_type.push(ValueType { r#type: cpu, unit: nanoseconds });
        self.profile
    }

    fn push(&mut self, stack: &[&str], value_ns: i64, label: Vec<Label>) {
        let mut location_id = Vec::new();
        for name in stack.iter().rev() {
            let id = match self.locations.get(*name) {
                Some(id) => *id,
                None => {
                    let id = self.location("/bin/a", &[(name, "a.c", 1)]);
                    self.locations.insert((*name).to_owned(), id);
                    id
                }
            };
            location_id.push(id);
        }
        self.profile.sample.push(Sample { location_id, value: vec![value_ns], label });
    }

    fn string(&mut self, text: &str) -> i64 {
        if self.profile.string_table.is_empty() {
            self.profile.string_table.push(String::new());
            self.strings.insert(String::new(), 0);
        }
        if let Some(index) = self.strings.get(text) {
            return *index;
        }
        let index = self.profile.string_table.len() as i64;
        self.profile.string_table.push(text.to_owned());
        self.strings.insert(text.to_owned(), index);
        index
    }
}
