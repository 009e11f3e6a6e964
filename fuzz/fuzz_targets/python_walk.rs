//! The walk over Python frames in memory of any content, by offsets of any value.
#![no_main]

#[path = "shared/bytes.rs"]
mod bytes;

use bytes::{Bytes, START};
use interpreters::Walked;
use libfuzzer_sys::fuzz_target;
use python::{Layout, Source, Step, Walk, thread_state};

const LAYOUT_BYTES: usize = 48;

fuzz_target!(|data: &[u8]| {
    let Some((head, content)) = data.split_at_checked(LAYOUT_BYTES) else { return };
    let number = |index: usize| u16::from_le_bytes([head[2 * index], head[2 * index + 1]]);
    let layout = Layout {
        current: Source { hops: u32::from(head[47] & 3), offsets: [0, 8, 16] },
        bound: Source { hops: 1, offsets: [24, 0, 0] },
        code_type: START,
        state_frame: number(0),
        inner_frame: number(1),
        frame_bytes: number(2),
        frame_code: number(3),
        frame_back: number(4),
        frame_instruction: number(5),
        frame_entry: number(6),
        frame_tlbc: number(7),
        code_head: number(8),
        code_bytes: number(9),
        code_argcount: number(10),
        code_kwonly: number(11),
        code_flags: number(12),
        code_firstlineno: number(13),
        code_name: number(14),
        code_linetable: number(15),
        code_start: number(16),
        code_tlbc: number(17),
        entry: head[44],
        instruction: head[45],
        code_filename: number(18),
    };
    let mut bytes = Bytes(content);
    let mut memory = Walked(&mut bytes);
    let state = thread_state(&layout, START, &mut memory).unwrap_or(START);
    let mut walk = Walk::EMPTY;
    if walk.start(&layout, state, &mut memory).is_err() {
        return;
    }
    // As many frames as there are words, at most three times around.
    let steps_max = 4 * (content.len() / 8 + 2);
    assert!((0..steps_max).any(|_| matches!(walk.step(&layout, &mut memory), Step::End(_))));
});
