//! The way from one program to the next.

use abi::{Counter, End, Program};
use aya_ebpf::programs::PerfEventContext;

use crate::maps::{self, PROGRAMS};

/// Goes on in another program and comes back only if that is not there: the sample is lost then.
#[inline(always)]
pub(crate) fn enter(ctx: &PerfEventContext, program: Program) {
    // SAFETY: nothing here waits to be dropped.
    unsafe { PROGRAMS.tail_call(ctx, program as u32) };
    maps::count(Counter::ProgramNotEntered);
}

/// [`End::may_complete`] of a number.
#[inline(always)]
pub(crate) fn may_complete(end: u32) -> bool {
    const COMPLETABLE: u32 = {
        let mut bits = 0;
        let mut index = 0;
        while index < End::ALL.len() {
            if End::ALL[index].may_complete() {
                bits |= 1 << End::ALL[index] as u32;
            }
            index += 1;
        }
        bits
    };
    COMPLETABLE >> (end & 31) & 1 == 1
}

const _: () = assert!(End::ALL.len() <= 32);
