//! Whole walks over made-up stacks, and over hostile ones.

use std::collections::BTreeMap;

use abi::{
    CFA_REGISTER, FP_AT_CFA, FP_SAME, GENERAL_REGISTERS, MAPPING_ANONYMOUS, MAPPING_OPAQUE, MAPPING_PENDING,
    RA_BELOW_CFA, RA_IN_LR,
};
use proptest::prelude::*;

use super::*;
use crate::fake::{CODE, CODE_BYTES, CODE_OFFSET, Fake, PC, RETURN, SLOT, STACK, frame, registers};
use crate::{Aarch64, X86_64};

const FP: u64 = STACK + 0x40;
const FRAMES_MAX: usize = 64;

/// All frames and the end of a walk from [`registers`].
fn walk<A: Arch>(space: &mut Fake, fp: u64) -> (Vec<u64>, End) {
    let mut frames = Vec::new();
    let end = unwind::<A, _>(registers::<A>(fp), space, FRAMES_MAX, |frame| frames.push(frame));
    (frames, end)
}

fn at(address: u64) -> u32 {
    (address - CODE) as u32 + CODE_OFFSET
}

fn jit(start: u64, kind: u32) -> Mapping {
    Mapping { start, end: start + 0x1000, file_offset: 0, executable: 0, kind, reserved: 0 }
}

#[test]
fn a_walk_emits_the_places_of_the_calls_and_looks_rows_up_there() {
    let push = Rule::of(CFA_REGISTER, 7, FP_AT_CFA, RA_BELOW_CFA, -2, 16);
    let mut space = Fake::new(Found::Rule(push)).with(&[
        (STACK + 8, RETURN),
        (STACK, FP),
        (STACK + 16, 5),
        (STACK + 24, CODE + 0x301),
    ]);
    // The row of a return address is that of the call before it: the next function begins right there.
    space.rules.insert(at(RETURN), Found::NoTable(End::TablePending));
    space.rules.insert(at(CODE + 0x300), Found::Rule(Rule::STOP));
    let frames = vec![frame(PC), frame(RETURN - 1), frame(CODE + 0x300)];
    assert_eq!(walk::<X86_64>(&mut space, FP), (frames, End::Root));
}

#[test]
fn a_walk_takes_no_more_frames_than_it_may() {
    let rule = Rule::of(CFA_REGISTER, 7, FP_SAME, RA_BELOW_CFA, 0, 8);
    let words: Vec<_> = (0..200).map(|word| (STACK + 8 * word, RETURN)).collect();
    let mut space = Fake::new(Found::Rule(rule)).with(&words);
    let (frames, end) = walk::<X86_64>(&mut space, FP);
    assert_eq!((frames.len(), end), (FRAMES_MAX, End::FrameLimit));
}

#[test]
fn an_address_outside_of_all_mappings_ends_the_walk() {
    let rule = Rule::of(CFA_REGISTER, 7, FP_SAME, RA_BELOW_CFA, 0, 8);
    let mut space = Fake::new(Found::Rule(rule)).with(&[(STACK, CODE + CODE_BYTES + 2)]);
    assert_eq!(walk::<X86_64>(&mut space, FP), (vec![frame(PC)], End::MappingUnknown));
    space.mappings.clear();
    assert_eq!(walk::<X86_64>(&mut space, FP), (vec![], End::MappingUnknown));
}

#[test]
fn interrupted_code_without_a_row_is_taken_for_a_leaf_when_a_return_address_is_on_top() {
    let mut space = Fake::new(Found::Rule(Rule::STOP)).with(&[(STACK, RETURN), (FP, 0), (FP + 8, PC)]);
    space.rules.insert(at(PC), Found::NoRow);
    assert_eq!(walk::<X86_64>(&mut space, FP), (vec![frame(PC), frame(RETURN - 1)], End::Root));
    // A word that is no return address: the frame pointer leads on.
    space.words.insert(STACK, 12345);
    assert_eq!(walk::<X86_64>(&mut space, FP), (vec![frame(PC), frame(PC - 1)], End::Root));
}

#[test]
fn interrupted_aarch64_code_without_a_row_returns_by_its_link_register() {
    let mut space = Fake::new(Found::Rule(Rule::STOP)).with(&[(FP, 0), (FP + 8, PC + 0x40)]);
    space.rules.insert(at(PC), Found::NoRow);
    let mut frames = Vec::new();
    let mut start = registers::<Aarch64>(FP);
    start.general[30] = RETURN;
    assert_eq!(unwind::<Aarch64, _>(start, &mut space, FRAMES_MAX, |frame| frames.push(frame)), End::Root);
    assert_eq!(frames, [frame(PC), frame(RETURN - 1)]);
    // Another number in it: the frame pointer leads on.
    assert_eq!(walk::<Aarch64>(&mut space, FP), (vec![frame(PC), frame(PC + 0x3f)], End::Root));
}

#[test]
fn later_code_without_a_row_follows_the_frame_pointer() {
    let rule = Rule::of(CFA_REGISTER, 7, FP_SAME, RA_BELOW_CFA, 0, 8);
    let mut space = Fake::new(Found::NoRow).with(&[
        (STACK, RETURN),
        (STACK + 8, CODE + 1),
        (FP, 0),
        (FP + 8, CODE + 0x301),
    ]);
    space.rules.insert(at(PC), Found::Rule(rule));
    let frames = vec![frame(PC), frame(RETURN - 1), frame(CODE + 0x300)];
    // musl's thread start and hand-written _start: no row, and a frame pointer of 0.
    assert_eq!(walk::<X86_64>(&mut space, FP), (frames, End::Root));
    // No frame pointer to follow: it lies below the stack pointer.
    let frames = vec![frame(PC), frame(RETURN - 1)];
    assert_eq!(walk::<X86_64>(&mut space, STACK - 0x100), (frames, End::RowMissing));
}

#[test]
fn a_guess_that_leads_out_of_all_mappings_was_none() {
    let mut space = Fake::new(Found::NoRow).with(&[(FP, FP + 16), (FP + 8, 0x1234_5678)]);
    assert_eq!(walk::<X86_64>(&mut space, FP), (vec![frame(PC)], End::RowMissing));
}

#[test]
fn startup_code_without_a_row_is_the_root_where_the_first_stack_begins() {
    let rule = Rule::of(CFA_REGISTER, 7, FP_SAME, RA_BELOW_CFA, 0, 8);
    let mut space = Fake::new(Found::NoRow).with(&[(STACK, RETURN), (FP, FP + 16), (FP + 8, 0x1234_5678)]);
    space.rules.insert(at(PC), Found::Rule(rule));
    let frames = vec![frame(PC), frame(RETURN - 1)];
    let ends = [
        (1, End::Root),
        (79, End::Root),
        (80, End::RowMissing),
        (0x10_0000, End::RowMissing),
        (0, End::Root),
    ];
    for (below, end) in ends {
        space.stack_start = STACK + 8 + below;
        // No frame pointer at all, and one that leads out of all mappings.
        assert_eq!(walk::<X86_64>(&mut space, STACK - 8), (frames.clone(), end), "{below} bytes below");
        assert_eq!(walk::<X86_64>(&mut space, FP), (frames.clone(), end), "{below} bytes below");
    }
    // A frame pointer that leads to code is followed all the same.
    space.rules.insert(at(CODE + 0x300), Found::Rule(Rule::STOP));
    space.words.extend([(FP + 8, CODE + 0x301)]);
    assert_eq!(walk::<X86_64>(&mut space, FP), ([frames, vec![frame(CODE + 0x300)]].concat(), End::Root));
    // What was interrupted may be anything.
    space.rules.insert(at(PC), Found::NoRow);
    space.words.insert(STACK, 5);
    assert_eq!(walk::<X86_64>(&mut space, STACK - 8), (vec![frame(PC)], End::RowMissing));
}

#[test]
fn code_outside_of_files_follows_the_frame_pointer() {
    for kind in [MAPPING_ANONYMOUS, MAPPING_OPAQUE] {
        let mut space = Fake::new(Found::NoRow).with(&[
            // On top of the stack lies something like a return address; JIT code spills such.
            (STACK, RETURN),
            (FP, FP + 0x20),
            (FP + 8, 0x9000_0123),
            (FP + 0x20, 0),
            (FP + 0x28, 0),
        ]);
        space.mappings = vec![jit(0x9000_0000, kind), jit(PC & !0xfff, kind)];
        assert_eq!(walk::<X86_64>(&mut space, FP), (vec![PC, 0x9000_0122], End::Root));
    }
}

#[test]
fn a_file_that_is_being_opened_stops_the_walk() {
    let mut space = Fake::new(Found::NoRow).with(&[(FP, 0), (FP + 8, 0x9000_0123)]);
    space.mappings = vec![jit(PC & !0xfff, MAPPING_PENDING)];
    assert_eq!(walk::<X86_64>(&mut space, FP), (vec![PC], End::TablePending));
}

#[test]
fn a_missing_table_degrades_the_walk_to_frame_pointers_and_says_so_at_the_root() {
    for end in [End::TableEvicted, End::TableUnreadable] {
        let mut space = Fake::new(Found::Rule(Rule::STOP)).with(&[(FP, 0), (FP + 8, RETURN)]);
        space.rules.insert(at(PC), Found::NoTable(end));
        assert_eq!(walk::<X86_64>(&mut space, FP), (vec![frame(PC), frame(RETURN - 1)], end));
        // The first reason is kept, also where the frame pointer leads nowhere.
        space.otherwise = Found::NoTable(End::TableEvicted);
        assert_eq!(walk::<X86_64>(&mut space, FP), (vec![frame(PC), frame(RETURN - 1)], end));
        assert_eq!(walk::<X86_64>(&mut space, FP + 1), (vec![frame(PC)], end));
        space.words.insert(FP + 8, 0x1234_5678);
        assert_eq!(walk::<X86_64>(&mut space, FP), (vec![frame(PC)], end));
    }
}

#[test]
fn a_table_still_to_come_stops_the_walk_behind_its_frame_also_after_a_missing_one() {
    let mut space = Fake::new(Found::NoTable(End::TablePending)).with(&[(FP, 0), (FP + 8, RETURN)]);
    assert_eq!(walk::<X86_64>(&mut space, FP), (vec![frame(PC)], End::TablePending));
    space.rules.insert(at(PC), Found::NoTable(End::TableEvicted));
    let frames = vec![frame(PC), frame(RETURN - 1)];
    assert_eq!(walk::<X86_64>(&mut space, FP), (frames, End::TablePending));
}

#[test]
fn a_walk_started_in_place_is_a_new_walk() {
    let mut walk = Walk::start::<X86_64>(registers::<X86_64>(FP));
    (walk.known, walk.is_return, walk.degraded, walk.guessed) = (1, 1, End::TableEvicted as u32, 1);
    walk.restart::<X86_64>();
    let state = (walk.known, walk.is_return, walk.degraded, walk.guessed);
    assert_eq!(state, (X86_64::REGISTERS, 0, End::Root as u32, 0));
}

#[derive(Debug)]
struct Hostile {
    words: Vec<u64>,
    rules: Vec<Found>,
    mappings: BTreeMap<u64, Mapping>,
    reads: usize,
}

impl Space for Hostile {
    fn word(&mut self, address: u64) -> Option<u64> {
        self.reads += 1;
        let word = self.words[(address >> 3) as usize % self.words.len()];
        (word % 16 != 1).then_some(word)
    }

    fn word_end(&self) -> End {
        End::StackCut
    }

    fn mapping(&mut self, address: u64) -> Option<Mapping> {
        let (_, mapping) = self.mappings.range(..=address).next_back()?;
        Some(*mapping)
    }

    fn rule(&mut self, executable: u32, file_offset: u32) -> Found {
        self.rules[(executable ^ file_offset) as usize % self.rules.len()]
    }
}

fn any_found() -> impl Strategy<Value = Found> {
    prop_oneof![
        8 => any::<[u32; 2]>().prop_map(|words| Found::Rule(Rule::from_words(words))),
        4 => (0u16..32, any::<bool>(), -64i32..512).prop_map(|(register, in_lr, offset)| {
            let ra = if in_lr { RA_IN_LR } else { RA_BELOW_CFA };
            Found::Rule(Rule::of(CFA_REGISTER, register, FP_SAME, ra, 0, offset))
        }),
        1 => Just(Found::Rule(Rule::FRAME_POINTER)),
        1 => Just(Found::Rule(Rule::of(abi::CFA_SIGNAL, 7, FP_SAME, RA_BELOW_CFA, 0, 0))),
        1 => Just(Found::NoRow),
        1 => Just(Found::NoTable(End::TablePending)),
        1 => Just(Found::NoTable(End::TableEvicted)),
    ]
}

fn any_word() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(u64::MAX), any::<u64>(), STACK..STACK + 0x1000, CODE..CODE + CODE_BYTES]
}

fn check<A: Arch>(space: &mut Hostile, registers: Registers) {
    let mut frames = 0;
    let end = unwind::<A, _>(registers, space, FRAMES_MAX, |_| frames += 1);
    assert!(frames <= FRAMES_MAX && (frames == FRAMES_MAX || end != End::FrameLimit));
    // A signal frame, the dearest, reads 33 words.
    assert!(space.reads <= (FRAMES_MAX + 1) * 34, "{} reads", space.reads);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn whatever_tables_and_stacks_say_a_walk_ends_within_its_bounds(
        words in proptest::collection::vec(any_word(), 1..64),
        rules in proptest::collection::vec(any_found(), 1..16),
        starts in proptest::collection::vec((any_word(), 0u32..5), 0..4),
        pc in any_word(),
        general in proptest::collection::vec(any_word(), GENERAL_REGISTERS),
    ) {
        let mut mappings = BTreeMap::from([(0, Fake::new(Found::NoRow).mappings[0])]);
        for (start, kind) in starts {
            mappings.insert(start, Mapping { start, kind, executable: SLOT, ..Mapping::default() });
        }
        let registers = Registers { pc, general: general.try_into().unwrap() };
        let mut space = Hostile { words, rules, mappings, reads: 0 };
        check::<X86_64>(&mut space, registers);
        space.reads = 0;
        check::<Aarch64>(&mut space, registers);
    }
}
