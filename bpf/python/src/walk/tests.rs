//! Chains of frames of each generation of interpreters, sound and broken.

use proptest::prelude::*;

use super::*;
use crate::fake::Fake;
use crate::layout::{INSTRUCTION_POINTER, Source};

const STATE: u64 = 0x10_0000;
const FRAMES: u64 = 0x20_0000;
const CODES: u64 = 0x30_0000;
const CODE_TYPE: u64 = 0x40_0000;
const STEP_BYTES: u64 = 512;

/// Up to 3.9.
fn old() -> Layout {
    Layout {
        code_type: CODE_TYPE,
        state_frame: 24,
        inner_frame: NO_OFFSET,
        frame_bytes: 112,
        frame_code: 32,
        frame_back: 24,
        frame_instruction: 104,
        frame_entry: 0,
        frame_tlbc: NO_OFFSET,
        code_head: 8,
        code_bytes: 120,
        code_argcount: 16,
        code_kwonly: 24,
        code_flags: 36,
        code_firstlineno: 40,
        code_name: 112,
        code_linetable: 120,
        code_start: NO_OFFSET,
        code_tlbc: NO_OFFSET,
        entry: ENTRY_EACH,
        instruction: INSTRUCTION_BYTES,
        code_filename: 104,
        ..Layout::default()
    }
}

/// 3.11.
fn flagged() -> Layout {
    Layout {
        state_frame: 56,
        inner_frame: 8,
        frame_bytes: 72,
        frame_back: 48,
        frame_instruction: 56,
        frame_entry: 68,
        code_argcount: 56,
        code_kwonly: 64,
        code_flags: 48,
        code_firstlineno: 72,
        code_name: 120,
        code_filename: 112,
        code_linetable: 136,
        code_bytes: 136,
        code_start: 184,
        entry: ENTRY_FLAG,
        instruction: INSTRUCTION_POINTER,
        ..old()
    }
}

/// 3.14, free-threaded.
fn owned() -> Layout {
    Layout {
        state_frame: 72,
        frame_bytes: 80,
        frame_code: 0,
        frame_back: 8,
        frame_instruction: 56,
        frame_entry: 78,
        frame_tlbc: 72,
        code_head: 24,
        code_bytes: 136,
        code_argcount: 68,
        code_kwonly: 76,
        code_flags: 64,
        code_firstlineno: 84,
        code_name: 136,
        code_filename: 128,
        code_linetable: 152,
        code_start: 232,
        code_tlbc: 224,
        entry: ENTRY_OWNER,
        instruction: INSTRUCTION_POINTER,
        ..old()
    }
}

/// Frame `number` of a chain, the first one innermost, running code object `number`.
fn add(memory: &mut Fake, layout: &Layout, number: u64, back: u64) -> (u64, u64) {
    let (frame, code) = (FRAMES + number * STEP_BYTES, CODES + number * STEP_BYTES);
    memory.map(frame, STEP_BYTES);
    memory.map(code, STEP_BYTES);
    memory.put(frame + u64::from(layout.frame_code), code);
    memory.put(frame + u64::from(layout.frame_back), back);
    memory.put(code + u64::from(layout.code_head), CODE_TYPE);
    memory.put_half(code + u64::from(layout.code_firstlineno), number as u32 + 1);
    (frame, code)
}

fn chain(layout: &Layout, frames: u64) -> Fake {
    let mut memory = Fake::default();
    for number in 0..frames {
        let back = if number + 1 < frames { FRAMES + (number + 1) * STEP_BYTES } else { 0 };
        add(&mut memory, layout, number, back);
    }
    start_at(&mut memory, layout, FRAMES);
    memory
}

fn start_at(memory: &mut Fake, layout: &Layout, frame: u64) {
    let at = STATE + u64::from(layout.state_frame);
    match layout.inner_frame {
        NO_OFFSET => memory.put(at, frame),
        inner => {
            memory.put(at, STATE + 0x1000);
            memory.put(STATE + 0x1000 + u64::from(inner), frame);
        }
    }
}

fn started(layout: &Layout, memory: &mut Fake) -> Walk {
    let mut walk = Walk::EMPTY;
    walk.start(layout, STATE, memory).unwrap();
    walk
}

/// All steps to the end, at most `steps_max`.
fn steps(layout: &Layout, memory: &mut Fake, steps_max: usize) -> Vec<Step> {
    let mut walk = started(layout, memory);
    let mut steps = Vec::new();
    for _ in 0..steps_max {
        let step = walk.step(layout, memory);
        steps.push(step);
        if matches!(step, Step::End(_)) {
            break;
        }
    }
    steps
}

fn last_code(step: Step) -> u64 {
    match step {
        Step::Last(frame) => frame.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn until_3_10_each_frame_is_one_native_frame() {
    let layout = old();
    let mut memory = chain(&layout, 3);
    memory.put_half(FRAMES + 104, 22);
    memory.put_half(FRAMES + STEP_BYTES + 104, u32::MAX);
    let found = steps(&layout, &mut memory, 10);
    let Step::Last(first) = found[0] else { panic!("{found:?}") };
    let Step::Last(second) = found[1] else { panic!("{found:?}") };
    assert_eq!((first.code, first.instruction), (CODES, 22));
    assert_eq!((second.code, second.instruction), (CODES + STEP_BYTES, INSTRUCTION_UNKNOWN));
    assert_eq!(last_code(found[2]), CODES + 2 * STEP_BYTES);
    assert_eq!(found[3], Step::End(Reason::Root));
    let units = Layout { instruction: INSTRUCTION_UNITS, ..layout };
    let Step::Last(first) = steps(&units, &mut memory, 1)[0] else { panic!() };
    assert_eq!(first.instruction, 44);
}

#[test]
fn in_3_11_the_entry_frame_ends_a_native_frame() {
    let layout = flagged();
    let mut memory = chain(&layout, 2);
    memory.put_byte(FRAMES + STEP_BYTES + 68, 1);
    memory.put(FRAMES + 56, CODES + 184 + 6);
    memory.put(FRAMES + STEP_BYTES + 56, CODES + STEP_BYTES + 182);
    let found = steps(&layout, &mut memory, 10);
    let Step::Frame(first) = found[0] else { panic!("{found:?}") };
    let Step::Last(second) = found[1] else { panic!("{found:?}") };
    assert_eq!((first.code, first.instruction), (CODES, 6));
    // One before the first instruction: a call that has not begun.
    assert_eq!(second.instruction, INSTRUCTION_UNKNOWN);
    assert_eq!(found[2], Step::End(Reason::Root));
}

#[test]
fn from_3_12_an_extra_frame_marks_the_entry_and_runs_nothing() {
    let layout = owned();
    let mut memory = chain(&layout, 3);
    memory.put(FRAMES + STEP_BYTES, 0x99);
    memory.put_byte(FRAMES + STEP_BYTES + 78, 3);
    let found = steps(&layout, &mut memory, 10);
    assert!(matches!(found[0], Step::Frame(frame) if frame.code == CODES));
    assert_eq!(found[1], Step::Entry(FRAMES + STEP_BYTES));
    assert!(matches!(found[2], Step::Frame(frame) if frame.code == CODES + 2 * STEP_BYTES));
    assert_eq!(found[3], Step::End(Reason::Root));
}

#[test]
fn tags_are_no_part_of_the_code_objects_address() {
    let layout = owned();
    let mut memory = chain(&layout, 1);
    memory.put(FRAMES, CODES | 1);
    assert!(matches!(steps(&layout, &mut memory, 1)[0], Step::Frame(frame) if frame.code == CODES));
}

#[test]
fn a_threads_own_copy_of_the_code_counts_from_its_own_begin() {
    let layout = owned();
    let mut memory = chain(&layout, 1);
    let (copies, copy) = (0x50_0000, 0x60_0000);
    memory.put(CODES + 224, copies);
    memory.put(copies + 8 + 2 * 8, copy);
    memory.put_half(FRAMES + 72, 2);
    memory.put(FRAMES + 56, copy + 10);
    let instruction = |memory: &mut Fake| match steps(&layout, memory, 1)[0] {
        Step::Frame(frame) => frame.instruction,
        other => panic!("{other:?}"),
    };
    assert_eq!(instruction(&mut memory), 10);
    memory.put_half(FRAMES + 72, 3);
    assert_eq!(instruction(&mut memory), INSTRUCTION_UNKNOWN);
    memory.put_half(FRAMES + 72, u32::MAX);
    assert_eq!(instruction(&mut memory), INSTRUCTION_UNKNOWN);
}

#[test]
fn the_interpreters_own_code_is_passed_over() {
    let layout = owned();
    let mut memory = chain(&layout, 2);
    memory.put_half(CODES + 64, FLAG_OWN | 1);
    let found = steps(&layout, &mut memory, 10);
    assert_eq!(found[0], Step::Own);
    assert!(matches!(found[1], Step::Frame(frame) if frame.code == CODES + STEP_BYTES));
    let mut memory = chain(&layout, 1);
    memory.put_half(CODES + 84, 0);
    memory.put(CODES + 128, 0x7000);
    memory.put(CODES + 136, 0x7000);
    assert_eq!(steps(&layout, &mut memory, 1), [Step::Own]);
    memory.put(CODES + 136, 0x7010);
    assert!(matches!(steps(&layout, &mut memory, 1)[0], Step::Frame(_)));
    // The bit means something else before 3.12.
    let layout = old();
    let mut memory = chain(&layout, 1);
    memory.put_half(CODES + 36, FLAG_OWN);
    assert!(matches!(steps(&layout, &mut memory, 1)[0], Step::Last(_)));
}

#[test]
fn the_checksum_is_that_of_the_code_object() {
    let layout = old();
    let mut memory = chain(&layout, 1);
    for (offset, half) in [(16, 2), (24, 1), (36, 67), (40, 12)] {
        memory.put_half(CODES + offset, half);
    }
    memory.put(CODES + 112, 0x7000);
    memory.put(CODES + 120, 0x8000);
    let identity =
        Identity { argcount: 2, kwonly: 1, flags: 67, firstlineno: 12, name: 0x7000, linetable: 0x8000 };
    let Step::Last(frame) = steps(&layout, &mut memory, 1)[0] else { panic!() };
    assert_eq!(frame.checksum, checksum(&identity));
}

#[test]
fn what_is_no_code_object_is_never_taken_for_one() {
    let layout = owned();
    let mut memory = chain(&layout, 1);
    memory.put(CODES + 24, CODE_TYPE + 8);
    assert_eq!(steps(&layout, &mut memory, 3), [Step::End(Reason::NotCode)]);
    memory.put(FRAMES, 0);
    assert_eq!(steps(&layout, &mut memory, 3), [Step::End(Reason::NotCode)]);
    memory.put(FRAMES, 0x7777_0000);
    assert_eq!(steps(&layout, &mut memory, 3), [Step::End(Reason::CodeUnreadable)]);
}

#[test]
fn bad_frame_addresses_are_named() {
    let layout = old();
    let mut memory = chain(&layout, 1);
    for (frame, reason) in [
        (0x7777_0000, Reason::FrameUnreadable),
        (FRAMES + 4, Reason::FrameMisplaced),
        (8, Reason::FrameMisplaced),
        (u64::MAX - 7, Reason::FrameUnreadable),
    ] {
        start_at(&mut memory, &layout, frame);
        assert_eq!(steps(&layout, &mut memory, 3), [Step::End(reason)], "{frame:#x}");
    }
    let mut walk = Walk::EMPTY;
    assert_eq!(walk.start(&layout, 0x7777_0000, &mut memory), Err(Reason::ThreadStateUnreadable));
    assert_eq!(walk.step(&layout, &mut memory), Step::End(Reason::Root));
}

#[test]
fn an_unlinked_inner_struct_is_no_frame() {
    let layout = flagged();
    let mut memory = chain(&layout, 1);
    memory.put(STATE + 56, 0);
    assert_eq!(steps(&layout, &mut memory, 3), [Step::End(Reason::Root)]);
}

#[test]
fn a_frame_costs_two_reads() {
    let layout = owned();
    let mut memory = chain(&layout, 600);
    let mut walk = started(&layout, &mut memory);
    let before = memory.reads;
    for _ in 0..600 {
        assert!(matches!(walk.step(&layout, &mut memory), Step::Frame(_)));
    }
    assert_eq!(memory.reads - before, 1200);
    assert_eq!(walk.step(&layout, &mut memory), Step::End(Reason::Root));
}

#[test]
fn rings_of_any_length_are_left() {
    for length in 1..40u64 {
        for lead in [0, 1, 7, 30] {
            let layout = old();
            let mut memory = chain(&layout, lead + length);
            memory.put(FRAMES + (lead + length - 1) * STEP_BYTES + 24, FRAMES + lead * STEP_BYTES);
            let steps_max = 3 * (lead + length) as usize + 3;
            let found = steps(&layout, &mut memory, steps_max);
            assert_eq!(found.last(), Some(&Step::End(Reason::Ring)), "{lead} before a ring of {length}");
        }
    }
}

proptest! {
    #[test]
    fn any_words_and_any_layout_end_without_a_panic(
        words in proptest::collection::vec((0u64..64, prop_oneof![
            (0u64..64).prop_map(|index| 0x1000 + index * 8), Just(CODE_TYPE), any::<u64>()
        ]), 0..128),
        offsets in proptest::collection::vec(any::<u16>(), 8),
        small in proptest::collection::vec(0u16..200, 8),
        kinds in (0u8..5, 0u8..5),
    ) {
        let mut memory = Fake::default();
        memory.map(0x1000, 64 * 8);
        for (index, word) in words {
            memory.put(0x1000 + index * 8, word);
        }
        for offsets in [&offsets, &small] {
            let layout = Layout {
                code_type: CODE_TYPE,
                current: Source { hops: 3, offsets: [0, 8, 16] },
                state_frame: offsets[0],
                inner_frame: NO_OFFSET,
                frame_bytes: offsets[1],
                frame_code: offsets[2],
                frame_back: offsets[3],
                frame_instruction: offsets[4],
                frame_entry: offsets[5],
                code_bytes: offsets[6],
                code_flags: offsets[7],
                entry: kinds.0,
                instruction: kinds.1,
                ..Layout::default()
            };
            let state = crate::thread_state(&layout, 0x1000, &mut memory).unwrap_or(0x1000);
            let mut walk = Walk::EMPTY;
            if walk.start(&layout, state, &mut memory).is_err() {
                continue;
            }
            let ends = (0..400).any(|_| matches!(walk.step(&layout, &mut memory), Step::End(_)));
            prop_assert!(ends, "64 words hold no more than 64 frames");
        }
    }
}
