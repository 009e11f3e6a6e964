//! One thread's stack, frame by frame.

use abi::{End, FRAME_IN_FILE, MAPPING_FILE, MAPPING_PENDING, Mapping, Registers, Rule, file_frame};

use crate::{Arch, step};

/// What stands so few bytes below where the process' first stack began, calls, and has neither row nor frame
/// pointer is what calls `main`: in musl 48 to 56 bytes. What `main` calls, and calls others, stands 32 bytes lower
/// at least: two return addresses, and two words that align the stack.
const STARTUP_BYTES_MAX: u64 = 80;

/// [`Walk::guessed`]: not so.
const GUESSED_NOT: u32 = 0;
/// [`Walk::guessed`]: the frame pointer was followed to here for want of a rule.
const GUESSED: u32 = 1;
/// [`Walk::guessed`]: likewise, from startup code.
const GUESSED_AT_START: u32 = 2;

/// What a walk asks of the address space it walks through.
pub trait Space {
    /// The word at an address of the thread's memory; `None` when it cannot be read.
    fn word(&mut self, address: u64) -> Option<u64>;

    /// Why [`Self::word`] gave `None`: [`End::MemoryUnreadable`], or [`End::StackCut`] behind the end of a copy.
    fn word_end(&self) -> End;

    /// The executable mapping that holds an address.
    fn mapping(&mut self, address: u64) -> Option<Mapping>;

    /// The rule for a place in an executable.
    fn rule(&mut self, executable: u32, file_offset: u32) -> Found;

    /// Where the process' first stack began: `mm->start_stack`, `startstack` of proc(5); 0 when it is not known.
    #[inline(always)]
    fn stack_start(&mut self) -> u64 {
        0
    }

    /// The words from an address upwards; `None` when one cannot be read, some are then written all the same.
    #[inline(always)]
    fn words<const N: usize>(&mut self, address: u64, into: &mut [u64; N]) -> Option<()> {
        let mut at = address;
        for word in into {
            *word = self.word(at)?;
            at = at.wrapping_add(8);
        }
        Some(())
    }
}

/// What a table says of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Rule(Rule),
    /// No row: the table is there and knows nothing of this place.
    NoRow,
    /// No table: [`End::TablePending`] stops the walk, [`End::TableEvicted`] and [`End::TableUnreadable`] let it
    /// follow the frame pointer and are what the stack then ends with.
    NoTable(End),
}

/// Where a walk stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// [`abi::file_frame`], or an address outside of files.
    pub frame: u64,
    /// [`Found::NoRow`] outside of files, [`End::TablePending`] in one that is being opened.
    pub found: Found,
}

/// The state between two frames.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    pub registers: Registers,
    /// Bit N: general register N holds what it held in this frame.
    pub known: u32,
    /// 1 when `registers.pc` is a return address, 0 when it is the instruction that was interrupted.
    pub is_return: u32,
    /// First reason why frames may be missing although the walk went on; [`End::Root`] for none.
    pub degraded: u32,
    /// Not 0 when the frame pointer was followed to here for want of a rule: an address outside of all mappings
    /// then says that it was none.
    pub guessed: u32,
}

/// Outcome of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// This frame, and `Walk` now stands in its caller.
    Frame(u64),
    /// This frame was the last; why.
    Last(u64, End),
    /// There is no frame here; why.
    End(End),
}

impl Walk {
    /// At the instruction that was interrupted.
    #[inline(always)]
    pub const fn start<A: Arch>(registers: Registers) -> Self {
        Self {
            registers,
            known: A::REGISTERS,
            is_return: 0,
            degraded: End::Root as u32,
            guessed: GUESSED_NOT,
        }
    }

    /// As [`Self::start`], where `registers` are already in their place.
    #[inline(always)]
    pub const fn restart<A: Arch>(&mut self) {
        self.known = A::REGISTERS;
        self.is_return = 0;
        self.degraded = End::Root as u32;
        self.guessed = GUESSED_NOT;
    }

    /// One frame.
    #[inline(always)]
    pub fn step<A: Arch, S: Space>(&mut self, space: &mut S) -> Step {
        match self.place(space) {
            Ok(place) => self.follow::<A, S>(place, space),
            Err(end) => Step::End(end),
        }
    }

    /// First half of a step: what is known of the place where the walk stands. It depends on `registers.pc` and
    /// `is_return` alone, as long as the layout and the tables stay what they are.
    #[inline(always)]
    pub fn place<S: Space>(&self, space: &mut S) -> Result<Place, End> {
        let address = self.registers.pc.wrapping_sub(u64::from(self.is_return));
        let Some(mapping) = space.mapping(address) else {
            let end = match self.guessed {
                GUESSED_NOT => End::MappingUnknown,
                GUESSED_AT_START => End::Root,
                _ => End::RowMissing,
            };
            return Err(self.reason(end));
        };
        if mapping.kind != MAPPING_FILE {
            let is_pending = mapping.kind == MAPPING_PENDING;
            let found = if is_pending { Found::NoTable(End::TablePending) } else { Found::NoRow };
            return Ok(Place { frame: address, found });
        }
        let file_offset = mapping.file_offset.wrapping_add(address.wrapping_sub(mapping.start) as u32);
        let found = space.rule(mapping.executable, file_offset);
        Ok(Place { frame: file_frame(mapping.executable, file_offset), found })
    }

    /// Second half of a step: from there to the caller.
    #[inline(always)]
    pub fn follow<A: Arch, S: Space>(&mut self, place: Place, space: &mut S) -> Step {
        let (rule, lost) = match place.found {
            Found::Rule(rule) => (rule, None),
            Found::NoRow if self.is_at_entry::<A, S>(place.frame, space) => (A::ENTRY, None),
            Found::NoRow => (Rule::FRAME_POINTER, Some(End::RowMissing)),
            Found::NoTable(end @ (End::TableEvicted | End::TableUnreadable)) => {
                if self.degraded == End::Root as u32 {
                    self.degraded = end as u32;
                }
                (Rule::FRAME_POINTER, Some(end))
            }
            Found::NoTable(end) => return Step::Last(place.frame, end),
        };
        let guessed = match lost {
            None => GUESSED_NOT,
            Some(End::RowMissing) if self.is_at_start::<A, S>(space) => GUESSED_AT_START,
            Some(_) => GUESSED,
        };
        match step::apply::<A, S>(self, rule, lost, space) {
            Ok(()) => {
                self.guessed = guessed;
                Step::Frame(place.frame)
            }
            Err(End::RowMissing) if guessed == GUESSED_AT_START => {
                Step::Last(place.frame, self.reason(End::Root))
            }
            Err(end) => Step::Last(place.frame, self.reason(end)),
        }
    }

    /// Whether code without a row, interrupted, looks as if its caller had just called it: hand-written assembly
    /// mostly leaves the stack alone. The return address must then be one.
    #[inline(always)]
    fn is_at_entry<A: Arch, S: Space>(&self, frame: u64, space: &mut S) -> bool {
        if self.is_return != 0 || frame & FRAME_IN_FILE == 0 {
            return false;
        }
        let ra = match A::LR {
            Some(lr) => Some(self.registers.general[lr]),
            None => space.word(self.registers.general[A::SP]),
        };
        match ra {
            Some(ra) => space.mapping((ra & A::ADDRESS_BITS).wrapping_sub(1)).is_some(),
            None => false,
        }
    }

    #[inline(always)]
    fn is_at_start<A: Arch, S: Space>(&self, space: &mut S) -> bool {
        let below = space.stack_start().wrapping_sub(self.registers.general[A::SP]);
        self.is_return != 0 && below < STARTUP_BYTES_MAX
    }

    /// Where frame pointers were followed for want of a table, that is the reason for whatever comes of it,
    /// unless a later look may do better.
    #[inline(always)]
    fn reason(&self, end: End) -> End {
        match End::from_number(self.degraded) {
            Some(degraded) if self.degraded != End::Root as u32 && !end.may_complete() => degraded,
            _ => end,
        }
    }
}

/// Walks a whole stack: `push` gets at most `frames_max` frames, leaf first. The reason why it ends.
pub fn unwind<A: Arch, S: Space>(
    registers: Registers,
    space: &mut S,
    frames_max: usize,
    mut push: impl FnMut(u64),
) -> End {
    let mut walk = Walk::start::<A>(registers);
    for _ in 0..frames_max {
        match walk.step::<A, S>(space) {
            Step::Frame(frame) => push(frame),
            Step::Last(frame, end) => {
                push(frame);
                return end;
            }
            Step::End(end) => return end,
        }
    }
    End::FrameLimit
}

#[cfg(test)]
mod tests;
