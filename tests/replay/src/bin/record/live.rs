//! Samples of a stopped thread: at random moments, and at every instruction after them that was not met before.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use abi::{End, MAPPING_FILE, Mapping, Registers};
use anyhow::Result;
use replay::{Machine, Recorded, Region, Sample};
use unwind::{Aarch64, Arch, Found, Space, Step, Walk, X86_64};

use crate::recording::Recording;
use crate::tracee::Tracee;

/// Random moments, and steps after each. The first gives half of the samples, the others share the rest.
const ROUNDS: usize = 9;
const STEPS_MAX: usize = 1 << 18;
/// Steps without a new instruction after which the function is left, where that can be had.
const STEPS_BORED: usize = 512;
/// The longest run between two moments.
const RUN_US_MAX: u64 = 40_000;
/// Of the libraries' instructions one in so many is taken.
const LIBRARY_SHARE: u64 = 4;
/// Words further apart are in two regions.
const GAP_BYTES: u64 = 8192;
/// Kept behind the last word that the walk read.
const BEHIND_BYTES: u64 = 64;

/// The program's samples, at most as many as the recording wants.
pub(crate) fn samples(
    recording: &Recording,
    recorded: &Recorded,
    program: &str,
    tracee: &mut dyn Tracee,
) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for round in 0..ROUNDS {
        let share = recording.samples_max / 2 * (ROUNDS - 1 + round) / (ROUNDS - 1);
        let mut met = HashSet::new();
        tracee.run(Duration::from_micros(fastrand::u64(1..=RUN_US_MAX)))?;
        let mut bored = 0;
        for step in 0..STEPS_MAX {
            if samples.len() >= share {
                break;
            }
            if step > 0 {
                tracee.step()?;
            }
            let registers = tracee.registers()?;
            bored += 1;
            let is_new = met.insert(registers.pc) && wants(recorded, program, registers.pc);
            if is_new || bored == STEPS_BORED {
                let (memory, caller) = memory(recording.machine, recorded, registers, tracee);
                if is_new {
                    samples.push(Sample { registers, memory });
                    bored = 0;
                } else if let Some(caller) = caller {
                    tracee.run_to(caller)?;
                    bored = 0;
                }
            }
        }
    }
    Ok(samples)
}

/// All of the program's own instructions, and some of its libraries'.
fn wants(recorded: &Recorded, program: &str, pc: u64) -> bool {
    let Some(mapping) = recorded.mapping(pc).filter(|mapping| mapping.kind == MAPPING_FILE) else {
        return false;
    };
    let executable = recorded.executables.get(mapping.executable as usize);
    let own = executable
        .is_some_and(|executable| executable.name.rsplit_once('-').is_some_and(|(file, _)| file == program));
    // Odd, so that neighbours do not share their last bits.
    own || pc.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 & (LIBRARY_SHARE - 1) == 0
}

/// What a walk reads, and the address that the leaf returns to.
fn memory(
    machine: Machine,
    recorded: &Recorded,
    registers: Registers,
    tracee: &mut dyn Tracee,
) -> (Vec<Region>, Option<u64>) {
    let mut space = Live { recorded, tracee, words: BTreeSet::new() };
    let (caller, sp) = match machine {
        Machine::X86_64 => walk::<X86_64>(registers, &mut space),
        Machine::Aarch64 => walk::<Aarch64>(registers, &mut space),
    };
    let Live { words, .. } = space;
    let mut ranges: Vec<(u64, u64)> = vec![(sp, sp + BEHIND_BYTES)];
    for word in words {
        match ranges.iter_mut().find(|range| word >= range.0 && word < range.1 + GAP_BYTES) {
            Some(range) => range.1 = range.1.max(word + BEHIND_BYTES),
            None => ranges.push((word, word + BEHIND_BYTES)),
        }
    }
    let read = |(start, end): (u64, u64)| {
        let mut bytes = vec![0; (end - start) as usize];
        tracee.read(start, &mut bytes).then_some(Region { address: start, bytes })
    };
    (ranges.into_iter().filter_map(read).collect(), caller)
}

fn walk<A: Arch>(registers: Registers, space: &mut Live<'_>) -> (Option<u64>, u64) {
    let mut walk = Walk::start::<A>(registers);
    let sp = registers.general[A::SP];
    let mut caller = None;
    for _ in 0..replay::FRAMES_MAX {
        if !matches!(walk.step::<A, _>(space), Step::Frame(_)) {
            break;
        }
        caller = caller.or(Some(walk.registers.pc));
    }
    (caller, sp)
}

/// The memory of a stopped thread; remembers which words were read.
struct Live<'a> {
    recorded: &'a Recorded,
    tracee: &'a mut dyn Tracee,
    words: BTreeSet<u64>,
}

impl Space for Live<'_> {
    fn word(&mut self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        if !self.tracee.read(address, &mut bytes) {
            return None;
        }
        self.words.insert(address);
        Some(u64::from_le_bytes(bytes))
    }

    fn word_end(&self) -> End {
        End::MemoryUnreadable
    }

    fn mapping(&mut self, address: u64) -> Option<Mapping> {
        self.recorded.mapping(address)
    }

    fn rule(&mut self, executable: u32, file_offset: u32) -> Found {
        self.recorded.rule(executable, file_offset)
    }
}
