//! A pprof file as stacks that a test can ask.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use prost::Message;

/// The largest profile that is unpacked.
const PROFILE_BYTES_MAX: u64 = 512 << 20;

/// A decoded profile.
#[derive(Debug, Clone)]
pub struct Profile {
    pub stacks: Vec<Stack>,
    /// Nanoseconds that one sample is worth; 0 in a profile without samples.
    pub period_ns: u64,
}

/// One sample of the file: a stack and how often it was met.
#[derive(Debug, Clone)]
pub struct Stack {
    /// Ticks, not nanoseconds.
    pub samples: u64,
    /// Leaf first; inlined functions have frames of their own.
    pub frames: Vec<Frame>,
    /// Text labels.
    pub labels: BTreeMap<String, String>,
    /// The label `pid`; 0 without one.
    pub pid: u32,
}

/// One function call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    pub name: String,
    /// Source file; empty when not known.
    pub file: String,
    /// Source line; 0 when not known.
    pub line: i64,
    /// Path of the file the code is in, `[kernel]` for the kernel.
    pub mapping: String,
    /// Of the mapping, in hexadecimal digits; empty when there is none.
    pub build_id: String,
    /// Whether the compiler put it into the next frame.
    pub inlined: bool,
}

impl Frame {
    pub fn is_kernel(&self) -> bool {
        self.mapping == "[kernel]"
    }
}

impl Stack {
    pub fn has(&self, name: &str) -> bool {
        self.frames.iter().any(|frame| frame.name == name)
    }

    pub fn leaf(&self) -> &str {
        self.frames.first().map_or("", |frame| frame.name.as_str())
    }

    pub fn process_name(&self) -> &str {
        self.label("process_name")
    }

    /// A text label; empty without one.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// Names from the root to the leaf, joined by `;`.
    pub fn folded(&self) -> String {
        let names: Vec<&str> = self.frames.iter().rev().map(|frame| frame.name.as_str()).collect();
        names.join(";")
    }
}

impl Profile {
    /// Reads a `.pb.gz` file.
    ///
    /// # Errors
    /// It is not there, or not such a file.
    pub fn read(path: &Path) -> Result<Self> {
        let what = || path.display().to_string();
        Self::parse(&fs::read(path).with_context(what)?).with_context(what)
    }

    /// Decodes a gzipped profile.
    ///
    /// # Errors
    /// It is none, is larger than the limit, or refers to what is not in it.
    pub fn parse(gzipped: &[u8]) -> Result<Self> {
        let mut bytes = Vec::new();
        flate2::bufread::GzDecoder::new(gzipped).take(PROFILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        ensure!(bytes.len() as u64 <= PROFILE_BYTES_MAX, "more than {PROFILE_BYTES_MAX} bytes");
        Self::new(&model::pprof::Profile::decode(bytes.as_slice())?)
    }

    /// # Errors
    /// It refers to what is not in it.
    pub fn new(profile: &model::pprof::Profile) -> Result<Self> {
        let tables = Tables::new(profile);
        let period_ns = u64::try_from(profile.period)?;
        ensure!(period_ns > 0 || profile.sample.is_empty(), "samples without a period");
        let stack = |sample: &model::pprof::Sample| -> Result<Stack> {
            let value = u64::try_from(*sample.value.first().context("no value")?)?;
            let mut stack =
                Stack { samples: value / period_ns, frames: Vec::new(), labels: BTreeMap::new(), pid: 0 };
            for id in &sample.location_id {
                stack.frames.extend(tables.frames(*id)?);
            }
            for label in &sample.label {
                let key = tables.string(label.key)?;
                if key == "pid" {
                    stack.pid = u32::try_from(label.num)?;
                } else if label.str != 0 {
                    stack.labels.insert(key, tables.string(label.str)?);
                }
            }
            Ok(stack)
        };
        Ok(Self { stacks: profile.sample.iter().map(stack).collect::<Result<_>>()?, period_ns })
    }

    /// Stacks of processes with this name.
    pub fn of_process<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Stack> {
        self.stacks.iter().filter(move |stack| stack.process_name() == name)
    }

    /// Stacks of the process with this id.
    pub fn of_pid(&self, pid: u32) -> impl Iterator<Item = &Stack> {
        self.stacks.iter().filter(move |stack| stack.pid == pid)
    }

    /// Samples of everything.
    pub fn samples(&self) -> u64 {
        samples(self.stacks.iter())
    }
}

/// Samples of some stacks.
pub fn samples<'a>(stacks: impl Iterator<Item = &'a Stack>) -> u64 {
    stacks.map(|stack| stack.samples).sum()
}

/// Some stacks as text, the most frequent first, for the message of a failed test.
pub fn describe<'a>(stacks: impl Iterator<Item = &'a Stack>) -> String {
    let mut stacks: Vec<&Stack> = stacks.collect();
    stacks.sort_by_key(|stack| std::cmp::Reverse(stack.samples));
    let line = |stack: &&Stack| {
        format!("{} {} {} {:?}\n", stack.samples, stack.process_name(), stack.folded(), stack.labels)
    };
    stacks.iter().take(20).map(line).collect()
}

struct Tables<'a> {
    strings: &'a [String],
    locations: HashMap<u64, &'a model::pprof::Location>,
    functions: HashMap<u64, &'a model::pprof::Function>,
    mappings: HashMap<u64, &'a model::pprof::Mapping>,
}

impl<'a> Tables<'a> {
    fn new(profile: &'a model::pprof::Profile) -> Self {
        Self {
            strings: &profile.string_table,
            locations: profile.location.iter().map(|it| (it.id, it)).collect(),
            functions: profile.function.iter().map(|it| (it.id, it)).collect(),
            mappings: profile.mapping.iter().map(|it| (it.id, it)).collect(),
        }
    }

    fn string(&self, index: i64) -> Result<String> {
        let found = usize::try_from(index).ok().and_then(|index| self.strings.get(index));
        found.cloned().with_context(|| format!("no string {index}"))
    }

    fn frames(&self, id: u64) -> Result<Vec<Frame>> {
        let location = self.locations.get(&id).with_context(|| format!("no location {id}"))?;
        let mapping = match location.mapping_id {
            0 => None,
            id => Some(*self.mappings.get(&id).with_context(|| format!("no mapping {id}"))?),
        };
        let (path, build_id) = match mapping {
            Some(mapping) => (self.string(mapping.filename)?, self.string(mapping.build_id)?),
            None => Default::default(),
        };
        let last = location.line.len().saturating_sub(1);
        let frame = |(index, line): (usize, &model::pprof::Line)| -> Result<Frame> {
            let id = line.function_id;
            let function = self.functions.get(&id).with_context(|| format!("no function {id}"))?;
            Ok(Frame {
                name: self.string(function.name)?,
                file: self.string(function.filename)?,
                line: line.line,
                mapping: path.clone(),
                build_id: build_id.clone(),
                inlined: index < last,
            })
        };
        location.line.iter().enumerate().map(frame).collect()
    }
}
