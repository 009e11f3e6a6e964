//! From a thread pointer to the thread's Python state.

use crate::layout::{HOPS_MAX, Layout, Source};
use crate::{Memory, Reason};

/// The state of the thread whose thread pointer (`fs` base, `tpidr_el0`) this is.
#[inline(always)]
pub fn thread_state<M: Memory>(layout: &Layout, thread_pointer: u64, memory: &mut M) -> Result<u64, Reason> {
    match follow(&layout.current, thread_pointer, memory) {
        Err(Reason::NoThreadState) => follow(&layout.bound, thread_pointer, memory),
        found => found,
    }
}

#[inline(always)]
fn follow<M: Memory>(source: &Source, thread_pointer: u64, memory: &mut M) -> Result<u64, Reason> {
    if source.hops == 0 || thread_pointer == 0 {
        return Err(Reason::NoThreadState);
    }
    let mut at = thread_pointer;
    for hop in 0..HOPS_MAX {
        if hop as u32 >= source.hops {
            break;
        }
        let Some(word) = memory.word(at.wrapping_add_signed(i64::from(source.offsets[hop]))) else {
            return Err(Reason::ThreadStateUnreadable);
        };
        // Neither a table nor storage that the thread has not touched yet: glibc marks the latter by all ones
        // (TLS_DTV_UNALLOCATED).
        if word == 0 || word == u64::MAX {
            return Err(Reason::NoThreadState);
        }
        at = word;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    const TP: u64 = 0x7f00_0000;
    const STATE: u64 = 0x5500_0000;

    fn state(current: Source, bound: Source, memory: &mut Fake) -> Result<u64, Reason> {
        thread_state(&Layout { current, bound, ..Layout::default() }, TP, memory)
    }

    fn source(offsets: &[i32]) -> Source {
        let mut source = Source { hops: offsets.len() as u32, ..Source::default() };
        source.offsets[..offsets.len()].copy_from_slice(offsets);
        source
    }

    #[test]
    fn static_storage_lies_below_the_thread_pointer() {
        let mut memory = Fake::default();
        memory.put(TP - 24, STATE);
        assert_eq!(state(source(&[-24]), Source::default(), &mut memory), Ok(STATE));
    }

    #[test]
    fn a_dynamically_loaded_module_is_reached_through_the_vector() {
        let mut memory = Fake::default();
        memory.put(TP + 8, 0x6000);
        memory.put(0x6000 + 5 * 16, 0x7000);
        memory.put(0x7000 + 24, STATE);
        assert_eq!(state(source(&[8, 5 * 16, 24]), Source::default(), &mut memory), Ok(STATE));
    }

    #[test]
    fn storage_that_was_never_touched_is_no_state() {
        let mut memory = Fake::default();
        memory.put(TP + 8, 0x6000);
        memory.put(0x6000 + 5 * 16, u64::MAX);
        let found = state(source(&[8, 5 * 16, 24]), Source::default(), &mut memory);
        assert_eq!(found, Err(Reason::NoThreadState));
    }

    #[test]
    fn a_thread_that_gave_up_the_lock_is_known_by_what_it_bound() {
        let mut memory = Fake::default();
        memory.put(TP - 24, 0);
        memory.put(TP + 792, STATE);
        assert_eq!(state(source(&[-24]), source(&[792]), &mut memory), Ok(STATE));
        memory.put(TP + 792, 0);
        assert_eq!(state(source(&[-24]), source(&[792]), &mut memory), Err(Reason::NoThreadState));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let mut memory = Fake::default();
        assert_eq!(state(source(&[-24]), Source::default(), &mut memory), Err(Reason::ThreadStateUnreadable));
        assert_eq!(state(Source::default(), Source::default(), &mut memory), Err(Reason::NoThreadState));
    }

    #[test]
    fn a_source_with_more_steps_than_there_are_stops() {
        let mut memory = Fake::default();
        memory.put(TP, TP);
        let endless = Source { hops: u32::MAX, offsets: [0; HOPS_MAX] };
        assert_eq!(state(endless, Source::default(), &mut memory), Ok(TP));
    }
}
