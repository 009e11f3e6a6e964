//! Look-ups in layouts and unwind tables, for the thread whose stack is walked.
//!
//! The look-ups are global functions without arguments, so that the verifier walks each once and not once for
//! each path that leads here and leaves: 5.10 refuses pointer arguments of such functions. Question and answer
//! are in [`Lookup`].

use abi::{CHUNK_PAGES, Counter, End, Image, Mapping, Page, Rule};
use aya_ebpf::helpers::{bpf_probe_read_user, generated};
use unwind::{Found, Pages, Place, Space, find_mapping, find_rule};

use crate::{
    image,
    maps::{self, EXECUTABLES, PAGES},
    scratch::Scratch,
};

/// What is looked up, and what was found.
#[repr(C)]
pub(crate) struct Lookup {
    address: u64,
    /// The last one found in this sample; empty before.
    pub(crate) mapping: Mapping,
    frame: u64,
    rule: Rule,
}

/// Answers of the look-ups; to the last two one of `abi::End` is added.
const FOUND: u32 = 0;
const NO_ROW: u32 = 0x100;
const NO_TABLE: u32 = 0x200;
const NO_PLACE: u32 = 0x300;
const END_MASK: u32 = 0xff;

/// The pool of pages.
struct Pool;

impl Pages for Pool {
    #[inline(always)]
    fn page(&self, number: u32) -> Option<&Page> {
        PAGES.get_value(number / CHUNK_PAGES, &(number % CHUNK_PAGES))
    }
}

/// The thread whose stack is walked.
pub(crate) struct Thread<'a> {
    pub(crate) lookup: &'a mut Lookup,
}

impl Space for Thread<'_> {
    #[inline(always)]
    fn word(&mut self, address: u64) -> Option<u64> {
        // SAFETY: the helper checks the address and fails on a bad or absent one.
        unsafe { bpf_probe_read_user(address as usize as *const u64) }.ok()
    }

    #[inline(always)]
    fn words<const N: usize>(&mut self, address: u64, into: &mut [u64; N]) -> Option<()> {
        // SAFETY: as long as the array, and the helper checks the address.
        let result = unsafe {
            generated::bpf_probe_read_user(
                into.as_mut_ptr().cast(),
                size_of::<[u64; N]>() as u32,
                address as usize as *const _,
            )
        };
        (result == 0).then_some(())
    }

    #[inline(always)]
    fn word_end(&self) -> End {
        End::MemoryUnreadable
    }

    #[inline(always)]
    fn stack_start(&mut self) -> u64 {
        image::stack_start()
    }

    #[inline(always)]
    fn mapping(&mut self, address: u64) -> Option<Mapping> {
        let last = &self.lookup.mapping;
        if address < last.start || address >= last.end {
            self.lookup.address = address;
            if native_mapping() != FOUND {
                return None;
            }
        }
        Some(self.lookup.mapping)
    }

    #[inline(always)]
    fn rule(&mut self, executable: u32, file_offset: u32) -> Found {
        match EXECUTABLES.get(executable) {
            Some(executable) => find_rule(&Pool, executable, file_offset),
            None => Found::NoTable(End::TablePending),
        }
    }
}

#[inline(always)]
fn address(scratch: &Scratch) -> u64 {
    scratch.walk.registers.pc.wrapping_sub(u64::from(scratch.walk.is_return))
}

/// What is known of the place where the walk stands: from this CPU's cache, or looked up.
#[inline(always)]
pub(crate) fn place(scratch: &mut Scratch) -> Result<Place, End> {
    let address = address(scratch);
    let answer = match scratch.cache.get(scratch.image.version, address) {
        Some(entry) => {
            scratch.lookup.frame = entry.frame;
            scratch.lookup.rule = entry.rule;
            entry.answer
        }
        None => native_place(),
    };
    // Read whatever the answer is: where the compiler knows that a value is of no use it may leave its
    // register unwritten and copy it all the same, which the verifier refuses.
    // SAFETY: a valid reference.
    let rule = unsafe { core::ptr::read_volatile(&raw const scratch.lookup.rule) };
    let end = answer & END_MASK;
    let found = match answer & !END_MASK {
        NO_PLACE => return Err(End::from_number(end).unwrap_or(End::MappingUnknown)),
        NO_TABLE => Found::NoTable(End::from_number(end).unwrap_or(End::TablePending)),
        NO_ROW => Found::NoRow,
        _ => Found::Rule(rule),
    };
    Ok(Place { frame: scratch.lookup.frame, found })
}

/// Looks up where the walk stands, into `lookup.frame` and `lookup.rule`.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn native_place() -> u32 {
    maps::count(Counter::FramesLookedUp);
    let Some(scratch) = Scratch::get() else {
        return NO_PLACE;
    };
    let mut thread = Thread { lookup: &mut scratch.lookup };
    let place = match scratch.walk.place(&mut thread) {
        Ok(place) => place,
        Err(end) => return NO_PLACE | end as u32,
    };
    scratch.lookup.frame = place.frame;
    let (answer, rule) = match place.found {
        Found::Rule(rule) => (FOUND, rule),
        Found::NoRow => (NO_ROW, Rule::FRAME_POINTER),
        // It may come or go.
        Found::NoTable(end) => return NO_TABLE | end as u32,
    };
    scratch.lookup.rule = rule;
    let address = address(scratch);
    scratch.cache.put(scratch.image.version, address, answer, place.frame, rule);
    answer
}

/// Looks `lookup.address` up in the layout, into `lookup.mapping`.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn native_mapping() -> u32 {
    let Some(scratch) = Scratch::get() else {
        return NO_PLACE;
    };
    let image: &Image = &scratch.image;
    match find_mapping(&Pool, image, scratch.lookup.address) {
        Some(mapping) => {
            scratch.lookup.mapping = mapping;
            FOUND
        }
        None => NO_PLACE,
    }
}
