//! Where a thread keeps its Python state: by a thread-specific key, or in a thread-local variable of any model.

use python::Source;

use super::version::Version;
use crate::libc::{Libc, source};
use crate::memory::{half, word};
use crate::x86::{self, Event, Value};
use crate::{Elf, Error, Memory};

/// What gives the current state as it is; the first that is exported is followed (3.12 and later).
const CURRENT: [&str; 3] =
    ["_PyThreadState_GetCurrent", "PyThreadState_GetUnchecked", "_PyThreadState_UncheckedGet"];
/// What gives the state that the thread bound last.
const BOUND: &str = "PyGILState_GetThisThreadState";
const CODE_BYTES_MAX: usize = 256;
/// `Py_tss_t`: whether the key is made, then the key.
const KEY_IN_STRUCT: u64 = 4;
/// `_Py_tss_tstate` came with 3.12; a key of POSIX' own type, with the word that says whether it is made, with 3.7.
const CURRENT_MINOR_MIN: u8 = 12;
const KEY_STRUCT_MINOR_MIN: u8 = 7;

/// The two ways of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Threads {
    current: Option<Variable>,
    bound: Option<Bound>,
    has_key_struct: bool,
}

/// A thread-local word, link addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variable {
    /// So far from the thread pointer (local exec).
    Static { offset: i32 },
    /// Its distance from the thread pointer is at an address (initial exec).
    Slot { at: u64 },
    /// Module and offset are at an address (general and local dynamic).
    Block { pair: u64, plus: i32 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    Variable(Variable),
    /// The key is at an address.
    Key {
        at: u64,
    },
    /// The key is at an offset from where the word at an address leads.
    KeyBehind {
        slot: u64,
        plus: i64,
    },
}

impl Threads {
    /// Found in the code of the functions that return them.
    pub(super) fn read(elf: &Elf<'_>, version: Version) -> Result<Self, Error> {
        let current = if version.minor >= CURRENT_MINOR_MIN { Self::current(elf) } else { None };
        let bound = elf.exported(BOUND).and_then(|symbol| {
            let code = elf.up_to(symbol.address, CODE_BYTES_MAX);
            x86::follow(&code, symbol.address).into_iter().rev().find_map(Bound::of)
        });
        if current.is_none() && bound.is_none() {
            return Err(Error::Missing("where a thread's state is"));
        }
        Ok(Self { current, bound, has_key_struct: version.minor >= KEY_STRUCT_MINOR_MIN })
    }

    fn current(elf: &Elf<'_>) -> Option<Variable> {
        let symbol = CURRENT.iter().find_map(|name| elf.exported(name))?;
        let code = elf.up_to(symbol.address, CODE_BYTES_MAX);
        x86::follow(&code, symbol.address).into_iter().rev().find_map(|event| match event {
            Event::Return { result } => Variable::of(result),
            _ => None,
        })
    }

    /// Whether a symbol is looked at here.
    pub(super) fn is_wanted(name: &[u8]) -> bool {
        CURRENT.iter().chain([&BOUND]).any(|wanted| wanted.as_bytes() == name)
    }

    /// The two sources in one process, the current state first.
    pub(super) fn attach(
        &self,
        bias: u64,
        libc: Option<Libc>,
        memory: &mut dyn Memory,
    ) -> Result<[Source; 2], Error> {
        let current = match self.current {
            Some(variable) => variable.attach(bias, libc, memory)?,
            None => Source::default(),
        };
        let bound = match self.bound {
            Some(bound) => match self.attach_bound(bound, bias, libc, memory) {
                // Threads that hold the lock are then known all the same.
                Err(Error::Missing(_)) if current.hops > 0 => Source::default(),
                bound => bound?,
            },
            None => Source::default(),
        };
        Ok([current, bound])
    }

    fn attach_bound(
        &self,
        bound: Bound,
        bias: u64,
        libc: Option<Libc>,
        memory: &mut dyn Memory,
    ) -> Result<Source, Error> {
        let at = match bound {
            Bound::Variable(variable) => return variable.attach(bias, libc, memory),
            Bound::Key { at } => bias.wrapping_add(at),
            Bound::KeyBehind { slot, plus } => {
                let slot = bias.wrapping_add(slot);
                word(memory, slot).ok_or(Error::Unreadable(slot))?.wrapping_add_signed(plus)
            }
        };
        if self.has_key_struct {
            let made_at = at.wrapping_sub(KEY_IN_STRUCT);
            if half(memory, made_at).ok_or(Error::Unreadable(made_at))? == 0 {
                return Err(Error::NotReady("the key of thread states"));
            }
        }
        let key = half(memory, at).ok_or(Error::Unreadable(at))?;
        // `autoTLSkey` is -1 at first (3.6).
        if key == u32::MAX {
            return Err(Error::NotReady("the key of thread states"));
        }
        let libc = libc.ok_or(Error::Missing("the C library's thread-specific values"))?;
        libc.value(key).ok_or(Error::Missing("a key of thread states that can be"))
    }
}

impl Variable {
    fn of(value: Value) -> Option<Self> {
        Some(match value {
            Value::ThreadWord { offset } => Self::Static { offset },
            Value::ThreadSlot { at } => Self::Slot { at },
            Value::BlockWord { pair, plus } => Self::Block { pair, plus },
            _ => return None,
        })
    }

    fn attach(self, bias: u64, libc: Option<Libc>, memory: &mut dyn Memory) -> Result<Source, Error> {
        match self {
            Self::Static { offset } => Ok(source(&[offset])),
            Self::Slot { at } => {
                let at = bias.wrapping_add(at);
                let offset = word(memory, at).ok_or(Error::Unreadable(at))? as i64;
                if offset == 0 {
                    return Err(Error::NotReady("thread-local storage"));
                }
                let offset = i32::try_from(offset);
                offset.map(|offset| source(&[offset])).map_err(|_far| Error::Missing("thread-local storage"))
            }
            Self::Block { pair, plus } => {
                let pair = bias.wrapping_add(pair);
                let module = word(memory, pair).ok_or(Error::Unreadable(pair))?;
                let offset = word(memory, pair.wrapping_add(8)).ok_or(Error::Unreadable(pair))?;
                if module == 0 {
                    return Err(Error::NotReady("thread-local storage"));
                }
                let libc = libc.ok_or(Error::Missing("the C library's thread-local storage"))?;
                let offset = offset.wrapping_add_signed(i64::from(plus));
                libc.block_word(module, offset).ok_or(Error::Missing("thread-local storage"))
            }
        }
    }
}

impl Bound {
    /// What the function hands to the one that looks a key up, or returns by itself.
    fn of(event: Event) -> Option<Self> {
        match event {
            Event::Return { result } => Variable::of(result).map(Self::Variable),
            // The key's struct is passed by address…
            Event::Call { argument: Value::Address(at) } | Event::Leave { argument: Value::Address(at) } => {
                Some(Self::Key { at: at.wrapping_add(KEY_IN_STRUCT) })
            }
            // … or the key itself as what is there. `_PyRuntime` does not begin with it, so that a word without an offset
            // is no pointer to it.
            Event::Call { argument: Value::Word { at, plus } }
            | Event::Leave { argument: Value::Word { at, plus } } => Some(match plus {
                0 => Self::Key { at },
                plus => Self::KeyBehind { slot: at, plus: plus.wrapping_add(KEY_IN_STRUCT as i64) },
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
