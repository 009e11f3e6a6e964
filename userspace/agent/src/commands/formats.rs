//! The files `kovar profile` writes: compressed pprof, folded stacks, a flame graph.

use anyhow::{Context, bail};
use model::pprof::{Function, Location, Mapping, Profile, Sample};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The file name of the mapping that the kernel's functions belong to.
const KERNEL_MAPPING: &str = "[kernel]";

/// Behind a kernel function's name in folded stacks; flame graph tools colour by it.
const KERNEL_SUFFIX: &str = "_[k]";

/// The kind of a file, taken from its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Pprof,
    Folded,
    Svg,
}

impl Format {
    /// # Errors
    /// An ending that is none of the three.
    pub(crate) fn of(path: &Path) -> anyhow::Result<Self> {
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        for (ending, format) in [(".pb.gz", Self::Pprof), (".folded", Self::Folded), (".svg", Self::Svg)] {
            if name.len() > ending.len() && name.ends_with(ending) {
                return Ok(format);
            }
        }
        bail!("{}: the name of the output must end in .pb.gz, .folded or .svg", path.display())
    }

    /// The profile in this format.
    ///
    /// # Errors
    /// A flame graph of a profile without samples.
    pub(crate) fn render(self, profile: &Profile) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::Pprof => crate::gzip::Gzip::default().encode(profile).context("compress the profile"),
            Self::Folded => {
                let mut text = Vec::new();
                for (stack, count) in folded(profile) {
                    writeln!(text, "{stack} {count}")?;
                }
                Ok(text)
            }
            Self::Svg => svg(profile),
        }
    }
}

/// A file that appears whole, or not at all: until then it is a temporary one beside it.
#[derive(Debug)]
pub(crate) struct WholeFile {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
}

impl WholeFile {
    /// Makes the temporary file, so that a path which cannot be written is known before the work is done.
    ///
    /// # Errors
    /// The system's, naming the file.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let mut name = path.file_name().map(|name| name.to_owned()).unwrap_or_default();
        name.push(format!(".{}.tmp", std::process::id()));
        let temporary = path.with_file_name(name);
        let file =
            File::create(&temporary).with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(Self { path: path.to_owned(), temporary, file })
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// The system's, naming the file; then what was in its place is still there.
    pub(crate) fn write(mut self, content: &[u8]) -> anyhow::Result<()> {
        self.file
            .write_all(content)
            .and_then(|()| self.file.sync_all())
            .and_then(|()| std::fs::rename(&self.temporary, &self.path))
            .with_context(|| format!("{} cannot be written", self.path.display()))
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove.
        let _renamed = std::fs::remove_file(&self.temporary);
    }
}

fn svg(profile: &Profile) -> anyhow::Result<Vec<u8>> {
    let lines: Vec<String> =
        folded(profile).iter().map(|(stack, count)| format!("{stack} {count}")).collect();
    if lines.is_empty() {
        bail!("nothing was sampled, there is no flame graph to draw");
    }
    let mut options = inferno::flamegraph::Options::default();
    options.title = "CPU time".to_owned();
    options.count_name = "samples".to_owned();
    let mut out = Vec::new();
    inferno::flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut out)
        .context("draw the flame graph")?;
    Ok(out)
}

/// Stacks as `process;outermost;…;innermost`, sorted, each with its number of samples.
fn folded(profile: &Profile) -> BTreeMap<String, u64> {
    let names = Names::new(profile);
    let period = profile.period.max(1);
    let mut stacks = BTreeMap::new();
    for sample in &profile.sample {
        // Rounded: a value is the number of ticks times the period, which is not whole nanoseconds at every rate.
        let value = sample.value.first().copied().unwrap_or(0).max(0);
        let count = (value.saturating_add(period / 2) / period) as u64;
        if count > 0 {
            *stacks.entry(names.stack(sample)).or_default() += count;
        }
    }
    stacks
}

/// Looks up what the messages of a profile refer to by number.
struct Names<'a> {
    strings: &'a [String],
    locations: HashMap<u64, &'a Location>,
    functions: HashMap<u64, &'a Function>,
    mappings: HashMap<u64, &'a Mapping>,
}

impl<'a> Names<'a> {
    fn new(profile: &'a Profile) -> Self {
        Self {
            strings: &profile.string_table,
            locations: profile.location.iter().map(|it| (it.id, it)).collect(),
            functions: profile.function.iter().map(|it| (it.id, it)).collect(),
            mappings: profile.mapping.iter().map(|it| (it.id, it)).collect(),
        }
    }

    fn string(&self, index: i64) -> &'a str {
        usize::try_from(index).ok().and_then(|index| self.strings.get(index)).map_or("", String::as_str)
    }

    fn stack(&self, sample: &Sample) -> String {
        let process = sample.label.iter().find(|label| self.string(label.key) == "process_name");
        let process = process.map(|label| self.string(label.str)).filter(|name| !name.is_empty());
        let mut stack = frame(process.unwrap_or("[unknown]"));
        let incomplete = sample.label.iter().find(|label| self.string(label.key) == "incomplete");
        if let Some(label) = incomplete {
            stack.push_str(&format!(";[incomplete: {}]", frame(self.string(label.str))));
        }
        for id in sample.location_id.iter().rev() {
            self.location(*id, &mut stack);
        }
        stack
    }

    /// Adds a location's frames, the outermost function of inlined ones first.
    fn location(&self, id: u64, stack: &mut String) {
        let Some(location) = self.locations.get(&id) else {
            stack.push_str(";[unknown]");
            return;
        };
        let mapping = self.mappings.get(&location.mapping_id);
        let file = mapping.map_or("", |mapping| self.string(mapping.filename));
        let suffix = if file == KERNEL_MAPPING { KERNEL_SUFFIX } else { "" };
        let functions = location.line.iter().rev().filter_map(|line| self.functions.get(&line.function_id));
        let mut named = false;
        for name in functions.map(|function| self.string(function.name)).filter(|name| !name.is_empty()) {
            stack.push(';');
            stack.push_str(&frame(name));
            stack.push_str(suffix);
            named = true;
        }
        if !named {
            let offset = mapping.map_or(location.address, |mapping| {
                location.address.wrapping_sub(mapping.memory_start).wrapping_add(mapping.file_offset)
            });
            let file = file.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("[unknown]");
            stack.push_str(&format!(";{}+{offset:#x}{suffix}", frame(file)));
        }
    }
}

/// A name fit for a folded stack, where `;` separates frames and lines separate stacks.
fn frame(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c == ';' {
                ':'
            } else if c.is_control() {
                ' '
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Format, WholeFile, folded};
    use flate2::write::GzDecoder;
    use model::pprof::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};
    use prost::Message;
    use std::io::Write;
    use std::path::Path;

    /// `main` calls `outer`, into which `inner;x` is inlined, which is in a system call; and an unnamed frame.
    fn profile() -> Profile {
        let strings =
            ["", "cpu", "nanoseconds", "process_name", "app", "main", "outer", "inner;x", "do_syscall"];
        let strings = strings.into_iter().chain(["[kernel]", "/usr/bin/app"]);
        let function = |id, name| Function { id, name, ..Default::default() };
        let line = |function_id| Line { function_id, ..Default::default() };
        let location = |id, mapping_id, address, lines: &[u64]| Location {
            id,
            mapping_id,
            address,
            line: lines.iter().map(|id| line(*id)).collect(),
            ..Default::default()
        };
        let sample = |location_id: &[u64], ticks: i64| Sample {
            location_id: location_id.to_vec(),
            value: vec![ticks * 10_309_278],
            label: vec![Label { key: 3, str: 4, ..Default::default() }],
        };
        Profile {
            string_table: strings.map(str::to_owned).collect(),
            sample_type: vec![ValueType { r#type: 1, unit: 2 }],
            period: 10_309_278,
            function: vec![function(1, 5), function(2, 6), function(3, 7), function(4, 8)],
            mapping: vec![
                Mapping { id: 1, filename: 9, ..Default::default() },
                Mapping {
                    id: 2,
                    filename: 10,
                    memory_start: 0x1000,
                    file_offset: 0x200,
                    ..Default::default()
                },
            ],
            location: vec![
                location(1, 2, 0x1010, &[1]),
                location(2, 2, 0x1020, &[3, 2]),
                location(3, 1, 0xffff, &[4]),
                location(4, 2, 0x1040, &[]),
            ],
            sample: vec![sample(&[3, 2, 1], 2), sample(&[4, 1], 1), sample(&[3, 2, 1], 3), sample(&[], 0)],
            ..Default::default()
        }
    }

    const FOLDED: &str = "app;main;app+0x240 1\napp;main;outer;inner:x;do_syscall_[k] 5\n";

    #[test]
    fn folded_stacks_start_at_the_root_and_mark_the_kernel() {
        let text = Format::Folded.render(&profile()).expect("text");
        assert_eq!(String::from_utf8(text).expect("UTF-8"), FOLDED);
    }

    #[test]
    fn an_incomplete_stack_says_why_before_its_first_frame() {
        let mut profile = profile();
        profile.string_table.extend(["incomplete".to_owned(), "stack_cut".to_owned()]);
        let last = profile.string_table.len() as i64;
        let label = Label { key: last - 2, str: last - 1, ..Default::default() };
        profile.sample.iter_mut().take(1).for_each(|sample| sample.label.push(label));
        let stacks: Vec<String> = folded(&profile).into_keys().collect();
        assert!(stacks[0].starts_with("app;[incomplete: stack_cut];main;outer"), "{stacks:?}");
    }

    #[test]
    fn pprof_is_gzip_of_the_same_profile() {
        let bytes = Format::Pprof.render(&profile()).expect("bytes");
        let mut decoder = GzDecoder::new(Vec::new());
        decoder.write_all(&bytes).expect("gzip");
        let decoded = Profile::decode(decoder.finish().expect("gzip").as_slice()).expect("pprof");
        assert_eq!(decoded, profile());
    }

    #[test]
    fn a_flame_graph_names_the_functions_and_needs_samples() {
        let svg = String::from_utf8(Format::Svg.render(&profile()).expect("svg")).expect("UTF-8");
        assert!(svg.contains("<svg") && svg.contains("outer") && svg.contains("do_syscall"));
        let error = Format::Svg.render(&Profile::default()).expect_err("no samples");
        assert!(error.to_string().contains("nothing was sampled"));
    }

    #[test]
    fn a_profile_that_refers_to_nothing_still_folds() {
        let broken = Profile {
            sample: vec![Sample { location_id: vec![7], value: vec![5], ..Default::default() }],
            ..Profile::default()
        };
        assert_eq!(folded(&broken).into_iter().collect::<Vec<_>>(), [("[unknown];[unknown]".to_owned(), 5)]);
    }

    #[test]
    fn the_ending_decides_and_an_unknown_one_names_the_three() {
        assert_eq!(Format::of(Path::new("/a/b.pb.gz")).expect("known"), Format::Pprof);
        assert_eq!(Format::of(Path::new("b.folded")).expect("known"), Format::Folded);
        assert_eq!(Format::of(Path::new("b.svg")).expect("known"), Format::Svg);
        for bad in ["a.png", ".svg", "svg", "/", "a.gz"] {
            let error = Format::of(Path::new(bad)).expect_err(bad).to_string();
            assert!(error.contains(".pb.gz, .folded or .svg"), "{error}");
        }
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_a_failure_names_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("out.svg");
        for content in ["one", "two"] {
            WholeFile::create(&path).and_then(|file| file.write(content.as_bytes())).expect("written");
            assert_eq!(std::fs::read_to_string(&path).expect("read"), content);
        }
        drop(WholeFile::create(&path).expect("created"));
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "two");
        assert_eq!(std::fs::read_dir(directory.path()).expect("list").count(), 1);
        let error = WholeFile::create(&directory.path().join("none/out.svg")).expect_err("no directory");
        assert!(format!("{error:#}").contains("none/out.svg cannot be written"), "{error:#}");
    }
}
