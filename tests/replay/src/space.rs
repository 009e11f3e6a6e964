//! A sample's address space, and the walk through it.

use abi::{End, FRAME_IN_FILE, MAPPING_ANONYMOUS, MAPPING_FILE, MAPPING_OPAQUE, Mapping, Registers};
use anyhow::{Context, Result};
use unwind::{Aarch64, Found, Space, X86_64};

use crate::{Executable, Facts, Machine, Names, Region, Sample};

/// Frames of one walk.
pub const FRAMES_MAX: usize = abi::USER_FRAMES_MAX;

/// What a case's samples share: executables, each in the slot of its index, and where they are mapped.
#[derive(Debug)]
pub struct Recorded {
    pub executables: Vec<Executable>,
    pub mappings: Vec<Mapping>,
    /// Where the process' first stack began; 0 when it is not known.
    pub stack_start: u64,
}

/// One sample's memory, over what the samples share.
#[derive(Debug)]
pub struct Stack<'a> {
    pub recorded: &'a Recorded,
    pub memory: &'a [Region],
    /// Why memory that is not there cannot be read.
    pub word_end: End,
}

impl Recorded {
    /// What a case's facts say; `executable` opens each executable that the mappings name, once.
    ///
    /// # Errors
    /// Those of `executable`.
    pub fn new(facts: &Facts, mut executable: impl FnMut(&str) -> Result<Executable>) -> Result<Self> {
        let mut executables: Vec<Executable> = Vec::new();
        let mut mappings = Vec::new();
        for file in &facts.mappings {
            let (start, end) = (file.start, file.end);
            let mut mapping = Mapping { start, end, kind: MAPPING_ANONYMOUS, ..Mapping::default() };
            if let Some(name) = &file.executable {
                let known = executables.iter().position(|executable| executable.name == *name);
                let slot = known.unwrap_or(executables.len());
                if known.is_none() {
                    executables.push(executable(name)?);
                }
                mapping.executable = slot as u32;
                mapping.kind = MAPPING_FILE;
                mapping.file_offset =
                    u32::try_from(file.file_offset).context("a file offset of 4 GiB or more")?;
            } else if start == VSYSCALL {
                mapping.kind = MAPPING_OPAQUE;
            }
            mappings.push(mapping);
        }
        Ok(Self { executables, mappings, stack_start: facts.stack_start })
    }

    /// The names of a sample's frames.
    pub fn names(&self, machine: Machine, sample: &Sample) -> Names {
        let mut stack = Stack { recorded: self, memory: &sample.memory, word_end: End::StackCut };
        let (frames, end) = unwind(machine, sample.registers, &mut stack);
        Names { names: frames.into_iter().map(|frame| self.name(frame)).collect(), end }
    }

    /// The name of a frame's function, or of its executable with the offset, or its address.
    pub fn name(&self, frame: u64) -> String {
        if frame & FRAME_IN_FILE == 0 {
            return format!("{frame:#x}");
        }
        let (slot, offset) = abi::frame_in_file(frame).unwrap_or_default();
        let Some(executable) = self.executables.get(slot as usize) else { return format!("slot {slot}") };
        match executable.function(offset) {
            Some(name) => name.to_owned(),
            None => {
                let file =
                    executable.name.rsplit_once('-').map_or(executable.name.as_str(), |(file, _)| file);
                format!("{file}+{offset:#x}")
            }
        }
    }

    /// The mapping that holds an address.
    pub fn mapping(&self, address: u64) -> Option<Mapping> {
        let behind = self.mappings.partition_point(|mapping| mapping.start <= address);
        self.mappings.get(behind.checked_sub(1)?).filter(|mapping| address < mapping.end).copied()
    }

    /// The rule at a file offset of the executable in a slot.
    pub fn rule(&self, executable: u32, file_offset: u32) -> Found {
        let executable = self.executables.get(executable as usize);
        executable.map_or(Found::NoRow, |executable| executable.rule(file_offset))
    }
}

/// Where x86-64 maps the legacy page.
const VSYSCALL: u64 = 0xffff_ffff_ff60_0000;

impl Space for Stack<'_> {
    fn word(&mut self, address: u64) -> Option<u64> {
        self.memory.iter().find_map(|region| {
            let at = usize::try_from(address.checked_sub(region.address)?).ok()?;
            region.bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
        })
    }

    fn word_end(&self) -> End {
        self.word_end
    }

    fn stack_start(&mut self) -> u64 {
        self.recorded.stack_start
    }

    fn mapping(&mut self, address: u64) -> Option<Mapping> {
        self.recorded.mapping(address)
    }

    fn rule(&mut self, executable: u32, file_offset: u32) -> Found {
        self.recorded.rule(executable, file_offset)
    }
}

/// All frames from these registers on, leaf first, and why they end.
pub fn unwind<S: Space>(machine: Machine, registers: Registers, space: &mut S) -> (Vec<u64>, End) {
    let mut frames = Vec::new();
    let mut push = |frame| frames.push(frame);
    let end = match machine {
        Machine::X86_64 => unwind::unwind::<X86_64, _>(registers, space, FRAMES_MAX, &mut push),
        Machine::Aarch64 => unwind::unwind::<Aarch64, _>(registers, space, FRAMES_MAX, &mut push),
    };
    (frames, end)
}
