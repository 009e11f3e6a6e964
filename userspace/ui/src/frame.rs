//! One frame of a stack as a person sees it: what runs there, where its source is, and of which kind it is.

use std::collections::HashMap;

use model::pprof::{Function, Location, Mapping, Profile};
use serde::Serialize;

/// Name of the frame that stands for everything folded away.
pub(crate) const OTHER_NAME: &str = "(other)";

/// What sort of code a frame is; the page colours by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// The whole selection.
    Root,
    /// A level added by `group`: a process, container or service.
    Group,
    Kernel,
    User,
    /// Code without a symbol, named by file and offset.
    Unresolved,
    /// What was folded away because it is too small or too deep.
    Other,
}

/// A function of one executable. `line` is the line in it where most time was seen, 0 when not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Frame {
    pub(crate) name: String,
    pub(crate) file: String,
    pub(crate) line: i64,
    pub(crate) kind: Kind,
    /// Path of the executable or library; `[kernel]` for kernel functions; empty for levels that are no code.
    pub(crate) module: String,
}

/// Position in a [`FrameTable`].
pub(crate) type FrameId = u32;

/// All frames of one profile, each function of an executable once.
#[derive(Debug, Default)]
pub(crate) struct FrameTable {
    frames: Vec<Frame>,
    ids: HashMap<(Kind, String, String, String), FrameId>,
    line_ns: HashMap<(FrameId, i64), u64>,
}

impl FrameTable {
    /// The id of the frame with this identity, made when it is new.
    pub(crate) fn intern(&mut self, kind: Kind, name: &str, file: &str, module: &str) -> FrameId {
        let key = (kind, name.to_owned(), file.to_owned(), module.to_owned());
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        let id = FrameId::try_from(self.frames.len()).unwrap_or(FrameId::MAX);
        self.frames.push(Frame {
            name: key.1.clone(),
            file: key.2.clone(),
            line: 0,
            kind,
            module: key.3.clone(),
        });
        self.ids.insert(key, id);
        id
    }

    /// The frame with this id. Ids come from [`FrameTable::intern`] of the same table.
    pub(crate) fn get(&self, id: FrameId) -> &Frame {
        &self.frames[id as usize]
    }

    /// How many frames there are.
    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Notes that `value_ns` was spent under this line of the frame.
    pub(crate) fn count_line(&mut self, id: FrameId, line: i64, value_ns: u64) {
        if line > 0 {
            let sum = self.line_ns.entry((id, line)).or_default();
            *sum = sum.saturating_add(value_ns);
        }
    }

    /// Gives each frame the line where most time was seen.
    pub(crate) fn settle_lines(&mut self) {
        let mut best: HashMap<FrameId, (u64, i64)> = HashMap::new();
        for (&(id, line), &ns) in &self.line_ns {
            let entry = best.entry(id).or_insert((ns, line));
            if ns > entry.0 || (ns == entry.0 && line < entry.1) {
                *entry = (ns, line);
            }
        }
        for (id, (_, line)) in best {
            self.frames[id as usize].line = line;
        }
    }
}

/// The frames of each location of a profile, outermost first, with the line of each.
#[derive(Debug)]
pub(crate) struct Locations<'a> {
    profile: &'a Profile,
    by_id: HashMap<u64, Vec<(FrameId, i64)>>,
    unknown: [(FrameId, i64); 1],
}

impl<'a> Locations<'a> {
    /// Names the frames of all locations.
    pub(crate) fn new(profile: &'a Profile, table: &mut FrameTable) -> Self {
        let unknown = [(table.intern(Kind::Unresolved, "[unknown]", "", ""), 0)];
        let mut locations = Self { profile, by_id: HashMap::new(), unknown };
        let functions: HashMap<u64, &Function> = profile.function.iter().map(|f| (f.id, f)).collect();
        let mappings: HashMap<u64, &Mapping> = profile.mapping.iter().map(|m| (m.id, m)).collect();
        for location in &profile.location {
            let mapping = mappings.get(&location.mapping_id).copied();
            let frames = locations.name(location, mapping, &functions, table);
            locations.by_id.insert(location.id, frames);
        }
        locations
    }

    /// The string at an index of the profile's table, empty when the index lies outside.
    pub(crate) fn string(&self, index: i64) -> &'a str {
        let position = usize::try_from(index).ok();
        position.and_then(|i| self.profile.string_table.get(i)).map_or("", String::as_str)
    }

    /// Frames of one location: several when functions were inlined, never none.
    pub(crate) fn frames(&self, location_id: u64) -> &[(FrameId, i64)] {
        self.by_id.get(&location_id).map_or(&self.unknown, Vec::as_slice)
    }

    fn name(
        &self,
        location: &Location,
        mapping: Option<&Mapping>,
        functions: &HashMap<u64, &Function>,
        table: &mut FrameTable,
    ) -> Vec<(FrameId, i64)> {
        let module = mapping.map_or("", |m| self.string(m.filename));
        let kernel = module.starts_with("[kernel");
        let mut frames = Vec::with_capacity(location.line.len().max(1));
        for line in location.line.iter().rev() {
            let Some(function) = functions.get(&line.function_id) else { continue };
            let name = self.string(function.name);
            if name.is_empty() {
                continue;
            }
            let kind = match (is_address_name(name), kernel) {
                (true, _) => Kind::Unresolved,
                (false, true) => Kind::Kernel,
                (false, false) => Kind::User,
            };
            frames.push((table.intern(kind, name, self.string(function.filename), module), line.line));
        }
        if frames.is_empty() {
            let base = module.rsplit('/').next().filter(|n| !n.is_empty()).unwrap_or("[unknown]");
            let offset = mapping.map_or(location.address, |m| {
                location.address.wrapping_sub(m.memory_start).wrapping_add(m.file_offset)
            });
            frames.push((table.intern(Kind::Unresolved, &format!("{base}+{offset:#x}"), "", module), 0));
        }
        frames
    }
}

/// Whether a function's name is only a file with an offset, or says that nothing is known.
fn is_address_name(name: &str) -> bool {
    // `[jit]`: code made at run time that no file or map names.
    if matches!(name, "[unknown]" | "[jit]") {
        return true;
    }
    let hex = name.rsplit_once("+0x").map(|(_, hex)| hex).or_else(|| name.strip_prefix("0x"));
    hex.is_some_and(|hex| !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::Builder;

    #[test]
    fn names_that_are_only_an_offset_are_unresolved() {
        for name in ["[unknown]", "[jit]", "libc.so.6+0x2a1f", "0xffffffff81000000"] {
            assert!(is_address_name(name), "{name}");
        }
        for name in ["main", "a+0x", "f+0xzz", "operator+", "0x"] {
            assert!(!is_address_name(name), "{name}");
        }
    }

    #[test]
    fn inlined_functions_become_frames_outermost_first() {
        let mut builder = Builder::default();
        let location = builder.location("/bin/a", &[("inner", "a.c", 7), ("outer", "a.c", 3)]);
        let profile = builder.finish();
        let mut table = FrameTable::default();
        let locations = Locations::new(&profile, &mut table);
        let names: Vec<_> = locations
            .frames(location)
            .iter()
            .map(|(id, line)| (table.get(*id).name.clone(), *line))
            .collect();
        assert_eq!(names, [("outer".to_owned(), 3), ("inner".to_owned(), 7)]);
    }

    #[test]
    fn a_location_without_functions_is_named_by_file_and_offset() {
        let mut builder = Builder::default();
        let location = builder.location("/usr/lib/libx.so", &[]);
        let mut profile = builder.finish();
        profile.mapping[0].memory_start = 0x1000;
        profile.mapping[0].file_offset = 0x200;
        profile.location[0].address = 0x1010;
        let mut table = FrameTable::default();
        let id = Locations::new(&profile, &mut table).frames(location)[0].0;
        assert_eq!(table.get(id).name, "libx.so+0x210");
        assert_eq!(table.get(id).kind, Kind::Unresolved);
    }

    #[test]
    fn a_missing_location_and_bad_string_indexes_are_no_panic() {
        let mut builder = Builder::default();
        let location = builder.location("/bin/a", &[("f", "a.c", 1)]);
        let mut profile = builder.finish();
        profile.function[0].name = -5;
        profile.mapping[0].filename = i64::MAX;
        let mut table = FrameTable::default();
        let locations = Locations::new(&profile, &mut table);
        assert_eq!(locations.frames(999).len(), 1);
        assert_eq!(locations.frames(location).len(), 1);
    }

    #[test]
    fn a_frame_shows_its_heaviest_line() {
        let mut table = FrameTable::default();
        let id = table.intern(Kind::User, "f", "f.c", "/bin/f");
        table.count_line(id, 10, 5);
        table.count_line(id, 12, 9);
        table.count_line(id, 0, 100);
        table.settle_lines();
        assert_eq!(table.get(id).line, 12);
    }
}
