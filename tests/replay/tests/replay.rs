//! Every recorded sample must give the frames that it gave, reach the root, and obey its program's chain of calls.
//! `KOVAR_BLESS=1` writes the frames anew; the chains and the roots still hold then.

use std::fs;
use std::sync::LazyLock;

use abi::{End, FRAME_IN_FILE, MAPPING_FILE};
use anyhow::{Context, Result};
use replay::{Case, Executable, FRAMES_MAX, Recorded, Sample, Stack, unwind};
use unwind::{Found, Space};

/// Mutations of each sample.
const CUTS: usize = 8;
const GARBLED: usize = 6;

#[allow(clippy::unwrap_used, reason = "this is a test, although not inside of a test function")]
static CASES: LazyLock<Vec<(Case, Recorded)>> = LazyLock::new(|| {
    let load = |case: Case| {
        let executables = replay::executables_dir();
        let recorded = Recorded::new(&case.facts, |name| Executable::read(&executables, name));
        let recorded = recorded.with_context(|| case.name.clone()).unwrap();
        (case, recorded)
    };
    Case::read_all(&replay::cases_dir()).unwrap().into_iter().map(load).collect()
});

fn walk(case: &Case, recorded: &Recorded, sample: &Sample) -> (Vec<u64>, End) {
    let mut stack = Stack { recorded, memory: &sample.memory, word_end: End::StackCut };
    unwind(case.facts.machine, sample.registers, &mut stack)
}

#[test]
fn every_sample_gives_the_frames_that_are_expected() {
    let blesses = std::env::var_os("KOVAR_BLESS").is_some_and(|value| value == "1");
    let mut wrong = Vec::new();
    for (case, recorded) in &*CASES {
        if blesses {
            case.bless(&replay::cases_dir(), recorded).unwrap();
            continue;
        }
        let (expected, got) = (case.expected(&replay::cases_dir()).unwrap(), case.lines(recorded));
        assert_eq!(expected.lines().count(), got.lines().count(), "{}", case.name);
        let differs =
            expected.lines().zip(got.lines()).enumerate().find(|(_, (expected, got))| expected != got);
        if let Some((index, (expected, got))) = differs {
            wrong.push(format!("{} sample {index}\n  expected {expected}\n  got      {got}", case.name));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_sample_obeys_its_program_s_chain_of_calls_and_reaches_the_root() {
    assert!(!CASES.is_empty());
    let wrong: Vec<String> = CASES.iter().flat_map(|(case, recorded)| case.breaches(recorded)).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_stack_that_is_cut_gives_its_first_frames_and_says_so() {
    let mut cut_short = 0;
    for (case, recorded) in &*CASES {
        for sample in &case.samples {
            let (whole, whole_end) = walk(case, recorded, sample);
            let Some(stack) = sample.memory.iter().map(|region| region.bytes.len()).max() else { continue };
            for cut in 0..CUTS {
                let mut short = sample.clone();
                short.memory.iter_mut().for_each(|region| region.bytes.truncate(stack * cut / CUTS));
                let (frames, end) = walk(case, recorded, &short);
                // A guess at the interrupted frame may go another way when what it looks at is gone.
                assert!(frames.len() <= whole.len(), "{}", case.name);
                if frames.len() < whole.len() {
                    assert_ne!(end, End::Root, "{}", case.name);
                    cut_short += 1;
                }
                if end == End::StackCut {
                    assert_eq!(whole.get(..frames.len()), Some(&*frames), "{}", case.name);
                } else if end == whole_end {
                    assert_eq!(whole, frames, "{}", case.name);
                }
            }
        }
    }
    assert!(cut_short > 0);
}

#[test]
fn registers_and_stacks_of_rubbish_end_with_a_reason() {
    let mut random = fastrand::Rng::with_seed(97);
    let mut ends = [0u32; End::ALL.len()];
    for (case, recorded) in &*CASES {
        for sample in &case.samples {
            for round in 0..GARBLED {
                let mut garbled = sample.clone();
                garble(&mut garbled, round, &mut random);
                let (frames, end) = walk(case, recorded, &garbled);
                assert!(frames.len() <= FRAMES_MAX && (end != End::FrameLimit || frames.len() == FRAMES_MAX));
                ends[end as usize] += 1;
            }
        }
    }
    for end in [End::Root, End::MappingUnknown, End::StackCut] {
        assert!(ends[end as usize] > 0, "no walk ended with {end:?}");
    }
}

/// Changes some registers, or words of memory, or both.
fn garble(sample: &mut Sample, round: usize, random: &mut fastrand::Rng) {
    let places: Vec<u64> =
        sample.registers.general.iter().copied().chain([sample.registers.pc, 0, u64::MAX]).collect();
    let mut value = || match random.u8(..4) {
        0 => random.u64(..),
        1 => places[random.usize(..places.len())].wrapping_add(random.u64(..4096)),
        _ => places[random.usize(..places.len())] & !7,
    };
    if round % 3 != 1 {
        for number in [6, 7, 29, 30, 31] {
            sample.registers.general[number] = value();
        }
        if round.is_multiple_of(2) {
            sample.registers.pc = value();
        }
    }
    if !round.is_multiple_of(3) {
        for region in &mut sample.memory {
            for word in region.bytes.chunks_exact_mut(8).skip(round).step_by(7) {
                word.copy_from_slice(&value().to_le_bytes());
            }
        }
    }
}

/// A stack whose executables have no table, for this reason.
struct Bare<'a>(Stack<'a>, End);

impl Space for Bare<'_> {
    fn word(&mut self, address: u64) -> Option<u64> {
        self.0.word(address)
    }

    fn word_end(&self) -> End {
        self.0.word_end()
    }

    fn mapping(&mut self, address: u64) -> Option<abi::Mapping> {
        self.0.mapping(address)
    }

    fn rule(&mut self, _: u32, _: u32) -> Found {
        Found::NoTable(self.1)
    }
}

#[test]
fn without_tables_or_mappings_the_leaf_is_kept_and_the_reason_told() {
    for (case, recorded) in &*CASES {
        let unmapped = Recorded { executables: vec![], mappings: vec![], stack_start: 0 };
        for sample in &case.samples {
            let leaf = walk(case, recorded, sample).0.first().copied();
            let bare = |end| {
                let stack = Stack { recorded, memory: &sample.memory, word_end: End::StackCut };
                unwind(case.facts.machine, sample.registers, &mut Bare(stack, end))
            };
            assert_eq!(bare(End::TablePending), (Vec::from_iter(leaf), End::TablePending), "{}", case.name);
            let (frames, end) = bare(End::TableEvicted);
            assert_eq!((frames.first().copied(), end), (leaf, End::TableEvicted), "{}", case.name);
            assert_eq!(walk(case, &unmapped, sample), (vec![], End::MappingUnknown), "{}", case.name);
        }
    }
}

#[test]
fn recordings_are_whole_and_of_bounded_size() -> Result<()> {
    const CASE_BYTES_MAX: u64 = 200 << 10;
    const EXECUTABLE_BYTES_MAX: u64 = 600 << 10;
    let bytes_of = |dir: &std::path::Path| -> Result<u64> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
    };
    let mut used = std::collections::BTreeSet::new();
    for (case, recorded) in &*CASES {
        assert!(bytes_of(&replay::cases_dir().join(&case.name))? <= CASE_BYTES_MAX, "{}", case.name);
        assert!(!case.samples.is_empty() && !case.facts.chain.is_empty(), "{}", case.name);
        assert!(case.facts.incomplete_max == 0 || !case.facts.incomplete_why.is_empty(), "{}", case.name);
        for sample in &case.samples {
            let mapping = recorded.mapping(sample.registers.pc).context("the leaf is mapped")?;
            assert_eq!(mapping.kind, MAPPING_FILE, "{}", case.name);
            assert_eq!(sample.registers.pc & FRAME_IN_FILE, 0);
        }
        used.extend(recorded.executables.iter().map(|executable| executable.name.clone()));
    }
    for entry in fs::read_dir(replay::executables_dir())? {
        let entry = entry?;
        let file = entry.file_name().to_string_lossy().into_owned();
        let name = file.rsplitn(3, '.').nth(2).context("a name")?;
        assert!(used.contains(name), "no case uses {file}");
        assert!(entry.metadata()?.len() <= EXECUTABLE_BYTES_MAX, "{file}");
    }
    Ok(())
}
