//! The program that unwinds a user stack by unwind tables, some frames each time it is entered.

use abi::{Counter, End, Program, USER_FRAMES_MAX};
use aya_ebpf::{macros::perf_event, programs::PerfEventContext};
use unwind::{Native, Step};

use crate::{
    maps, programs,
    scratch::Scratch,
    tables::{self, Thread},
};

/// Frames unwound each time; the programs can be entered 33 times for a sample (MAX_TAIL_CALL_CNT).
const FRAMES_PER_RUN: u32 = 64;
const _: () = assert!(USER_FRAMES_MAX as u32 / FRAMES_PER_RUN < 24);

/// Answers of [`native_frame`].
const NEXT: u32 = 0;
const LAST: u32 = 1;

/// Unwinds until the stack ends, then hands the sample on.
#[perf_event]
pub(crate) fn native(ctx: PerfEventContext) -> u32 {
    for _ in 0..FRAMES_PER_RUN {
        if native_frame() != NEXT {
            hand_on(&ctx);
            return 0;
        }
    }
    programs::enter(&ctx, Program::Native);
    0
}

#[inline(always)]
fn hand_on(ctx: &PerfEventContext) {
    let Some(scratch) = Scratch::get() else {
        return;
    };
    if programs::may_complete(scratch.event.end) {
        programs::enter(ctx, Program::Raw);
    } else {
        programs::enter(ctx, Program::Finish);
    }
}

/// Takes one frame. A global function without arguments, for the reason that `tables` gives.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn native_frame() -> u32 {
    let Some(scratch) = Scratch::get() else {
        return LAST;
    };
    if scratch.user_frames() >= USER_FRAMES_MAX {
        maps::count(Counter::UserStackTruncated);
        scratch.event.end = End::FrameLimit as u32;
        return LAST;
    }
    match step(scratch) {
        Step::Frame(frame) => {
            push(scratch, frame);
            NEXT
        }
        Step::Last(frame, end) => {
            push(scratch, frame);
            scratch.event.end = end as u32;
            LAST
        }
        Step::End(end) => {
            scratch.event.end = end as u32;
            LAST
        }
    }
}

#[inline(always)]
fn step(scratch: &mut Scratch) -> Step {
    match tables::place(scratch) {
        Ok(place) => {
            let mut thread = Thread { lookup: &mut scratch.lookup };
            scratch.walk.follow::<Native, _>(place, &mut thread)
        }
        Err(end) => Step::End(end),
    }
}

#[inline(always)]
fn push(scratch: &mut Scratch, frame: u64) {
    let number = scratch.user_frames();
    // SAFETY: inside `frames`, see there.
    unsafe { *scratch.user_frame(number) = frame };
    scratch.event.user_frames = number as u32 + 1;
}
