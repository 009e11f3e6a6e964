//! Stacks to a pprof profile: sample type cpu/nanoseconds, mappings with build ids.
//! Format: <https://github.com/google/pprof/blob/main/proto/profile.proto>.

use std::fmt::Write as _;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};
use model::pprof::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};

use crate::executable::Binary;
use crate::frame::{Frame, FrameId, Frames, Place};

/// File name of the mapping that all kernel frames belong to, as perf and pprof write it.
const KERNEL_MAPPING: &str = "[kernel]";
const JIT_MAPPING: &str = "[jit]";
const UNKNOWN_MAPPING: &str = "[unknown]";

/// When and how densely was sampled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) start_unix_ns: u64,
    pub(crate) duration_ns: u64,
    pub(crate) period_ns: u64,
}

/// What a sample says beside its stack.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Labels<'a> {
    pub(crate) pid: u32,
    /// Of a kernel thread: its own name.
    pub(crate) thread: Option<&'a str>,
    /// Why the user half does not reach the thread's first frame, if so.
    pub(crate) incomplete: Option<&'a str>,
}

/// A profile being put together.
pub(crate) struct Builder<'a> {
    frames: &'a Frames,
    span: Span,
    profile: Profile,
    samples: u64,
    strings: HashMap<Arc<str>, i64>,
    locations: HashMap<FrameId, u64>,
    functions: HashMap<(i64, i64), u64>,
    mappings: HashMap<u64, u64>,
}

/// Keys of mappings that are no file; files have ids from 1.
const KERNEL_KEY: u64 = u64::MAX;
const JIT_KEY: u64 = u64::MAX - 1;
const UNKNOWN_KEY: u64 = u64::MAX - 2;

impl<'a> Builder<'a> {
    pub(crate) fn new(frames: &'a Frames, span: Span) -> Self {
        let mut builder = Self {
            frames,
            span,
            profile: Profile::default(),
            samples: 0,
            strings: HashMap::new(),
            locations: HashMap::new(),
            functions: HashMap::new(),
            mappings: HashMap::new(),
        };
        builder.string("");
        builder
    }

    /// Adds `count` samples of one stack, leaf first.
    pub(crate) fn add(&mut self, frames: &[FrameId], count: u64, labels: Labels<'_>) {
        let Labels { pid, thread, incomplete } = labels;
        let value = count.saturating_mul(self.span.period_ns) as i64;
        let location_id = frames.iter().map(|id| self.location(*id)).collect();
        let mut label = vec![Label { key: self.string("pid"), num: pid.into(), ..Label::default() }];
        if let Some(thread) = thread {
            label.push(Label { key: self.string("thread"), str: self.string(thread), ..Label::default() });
        }
        if let Some(reason) = incomplete {
            label.push(Label {
                key: self.string("incomplete"),
                str: self.string(reason),
                ..Label::default()
            });
        }
        self.profile.sample.push(Sample { location_id, value: vec![value], label });
        self.samples += count;
    }

    /// The number of samples and the profile.
    pub(crate) fn finish(mut self) -> (u64, Profile) {
        let cpu = ValueType { r#type: self.string("cpu"), unit: self.string("nanoseconds") };
        self.profile.sample_type = vec![cpu];
        self.profile.period_type = Some(cpu);
        self.profile.period = self.span.period_ns as i64;
        self.profile.time_nanos = self.span.start_unix_ns as i64;
        self.profile.duration_nanos = self.span.duration_ns as i64;
        (self.samples, self.profile)
    }

    fn location(&mut self, id: FrameId) -> u64 {
        if let Some(location) = self.locations.get(&id) {
            return *location;
        }
        let frame = self.frames.get(id);
        let mapping_id = self.mapping(&frame.place, matches!(frame.symbol, Some(Ok(_))));
        let line = match &frame.symbol {
            Some(Ok(symbols)) => symbols
                .iter()
                .map(|symbol| {
                    let name = self.intern(&symbol.name);
                    let file = symbol.file.as_ref().map_or(0, |file| self.intern(file));
                    let function_id = self.function(name, file, symbol.start_line);
                    Line { function_id, line: symbol.line.into(), column: 0 }
                })
                .collect(),
            Some(Err(_)) | None => {
                let name = self.string(&placeholder(frame));
                vec![Line { function_id: self.function(name, 0, 0), line: 0, column: 0 }]
            }
        };
        let location = self.profile.location.len() as u64 + 1;
        let address = address(&frame.place);
        self.profile.location.push(Location { id: location, mapping_id, address, line, is_folded: false });
        self.locations.insert(id, location);
        location
    }

    fn function(&mut self, name: i64, file: i64, start_line: u32) -> u64 {
        let next = self.profile.function.len() as u64 + 1;
        let id = *self.functions.entry((name, file)).or_insert(next);
        if id == next {
            let start_line = start_line.into();
            self.profile.function.push(Function { id, name, system_name: name, filename: file, start_line });
        }
        id
    }

    fn mapping(&mut self, place: &Place, named: bool) -> u64 {
        let key = match place {
            Place::Kernel { .. } => KERNEL_KEY,
            Place::Jit { .. } => JIT_KEY,
            Place::Unknown => UNKNOWN_KEY,
            Place::File { binary, .. } => binary.id,
        };
        let id = match self.mappings.get(&key) {
            Some(id) => *id,
            None => {
                let mut mapping = match place {
                    Place::Kernel { .. } => self.named_mapping(KERNEL_MAPPING),
                    Place::Jit { .. } => self.named_mapping(JIT_MAPPING),
                    Place::Unknown => self.named_mapping(UNKNOWN_MAPPING),
                    Place::File { binary, .. } => self.file_mapping(binary),
                };
                mapping.id = self.profile.mapping.len() as u64 + 1;
                self.mappings.insert(key, mapping.id);
                self.profile.mapping.push(mapping);
                self.profile.mapping.len() as u64
            }
        };
        // Without any name, a backend that has the build id's symbols fills them in.
        self.profile.mapping[id as usize - 1].has_functions |= named;
        id
    }

    fn named_mapping(&mut self, name: &str) -> Mapping {
        Mapping { memory_limit: u64::MAX, filename: self.string(name), ..Mapping::default() }
    }

    /// As if loaded at its link address, the same in every process.
    fn file_mapping(&mut self, binary: &Binary) -> Mapping {
        let (memory_start, memory_limit, file_offset) = binary.extent();
        let build_id = binary.build_id.iter().fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _infallible = write!(text, "{byte:02x}");
            text
        });
        Mapping {
            memory_start,
            memory_limit,
            file_offset,
            filename: self.string(&binary.path),
            build_id: self.string(&build_id),
            ..Mapping::default()
        }
    }

    fn string(&mut self, text: &str) -> i64 {
        match self.strings.get(text) {
            Some(index) => *index,
            None => self.push_string(Arc::from(text)),
        }
    }

    fn intern(&mut self, text: &Arc<str>) -> i64 {
        match self.strings.get(text) {
            Some(index) => *index,
            None => self.push_string(Arc::clone(text)),
        }
    }

    fn push_string(&mut self, text: Arc<str>) -> i64 {
        let index = self.profile.string_table.len() as i64;
        self.profile.string_table.push(text.to_string());
        self.strings.insert(text, index);
        index
    }
}

fn address(place: &Place) -> u64 {
    match place {
        Place::Kernel { address } | Place::Jit { address, .. } => *address,
        Place::Unknown => 0,
        Place::File { binary, file_offset } => binary.link_address(*file_offset),
    }
}

/// What a frame without a symbol is called: file and offset, so that it can be told apart and looked up.
fn placeholder(frame: &Frame) -> String {
    match &frame.place {
        Place::Kernel { address } => format!("{KERNEL_MAPPING}+{address:#x}"),
        Place::File { binary, file_offset } => format!("{}+{file_offset:#x}", binary.name),
        // The address differs in every process and tells nothing.
        Place::Jit { .. } => JIT_MAPPING.to_owned(),
        Place::Unknown => UNKNOWN_MAPPING.to_owned(),
    }
}
