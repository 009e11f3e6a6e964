//! Where a C library keeps a thread's own values.

use object::elf::EM_X86_64;
use python::Source;

use crate::x86::{self, Event, Value};
use crate::{Elf, Error};

/// The function that reads a thread-specific value; its code tells where they are.
const FUNCTIONS: [&str; 2] = ["pthread_getspecific", "__pthread_getspecific"];
const CODE_BYTES_MAX: usize = 256;
/// The vector of modules' thread-local storage, in both libraries' `struct pthread`.
const VECTOR_AT: i32 = 8;
/// glibc's `struct pthread_key_data`: a sequence number, and the value behind it.
const GLIBC_ENTRY_BYTES: u32 = 16;
const GLIBC_VALUE_AT: i32 = 8;
/// Values of glibc in the thread's own block, and in each further one (PTHREAD_KEY_2NDLEVEL_SIZE).
const GLIBC_BLOCK_KEYS: u32 = 32;
/// PTHREAD_KEYS_MAX of glibc and of musl.
const GLIBC_KEYS_MAX: u32 = 1024;
const MUSL_KEYS_MAX: u32 = 128;
/// What `dtv` entries take: glibc's `dtv_t` has two words, musl's one.
const GLIBC_VECTOR_ENTRY_BYTES: u64 = 16;
const MUSL_VECTOR_ENTRY_BYTES: u64 = 8;
const MODULES_MAX: u64 = 1 << 16;

/// A C library's ways, x86-64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Libc {
    /// The first values are in the thread's own block: where the first one is.
    Glibc { first: i32 },
    /// Where the pointer to the values is.
    Musl { table: i32 },
}

impl Libc {
    /// Whether a symbol is looked at here; to be asked for when the file is read.
    pub fn is_wanted(name: &[u8]) -> bool {
        FUNCTIONS.iter().any(|function| function.as_bytes() == name)
    }

    /// Recognises a C library (until glibc 2.33 its thread library) by what it exports.
    ///
    /// # Errors
    /// [`Error::Missing`] when it exports the function and its code is not understood. `None` for any other file.
    pub fn recognise(elf: &Elf<'_>) -> Result<Option<Self>, Error> {
        let Some(symbol) = FUNCTIONS.iter().find_map(|name| elf.exported(name)) else { return Ok(None) };
        if elf.machine != EM_X86_64 {
            return Err(Error::Machine(elf.machine));
        }
        let code = elf.up_to(symbol.address, CODE_BYTES_MAX);
        let found = x86::follow(&code, symbol.address).into_iter().find_map(|event| match event {
            Event::Choose(Value::Chosen { table, multiplier, add }) => Self::of(table, multiplier, add),
            _ => None,
        });
        found.map(Some).ok_or(Error::Missing("where thread-specific values are"))
    }

    fn of(table: Option<i32>, multiplier: u32, add: i64) -> Option<Self> {
        match (table, multiplier, add) {
            (None, GLIBC_ENTRY_BYTES, 0..=65_536) => Some(Self::Glibc { first: add as i32 }),
            (Some(table), 8, 0) => Some(Self::Musl { table }),
            _ => None,
        }
    }

    /// The thread-specific value of a key (`pthread_getspecific`).
    pub fn value(self, key: u32) -> Option<Source> {
        match self {
            Self::Glibc { first } if key < GLIBC_BLOCK_KEYS => {
                Some(source(&[first + (key * GLIBC_ENTRY_BYTES) as i32]))
            }
            Self::Glibc { first } if key < GLIBC_KEYS_MAX => {
                let blocks = first - GLIBC_VALUE_AT + (GLIBC_BLOCK_KEYS * GLIBC_ENTRY_BYTES) as i32;
                let (block, within) = (key / GLIBC_BLOCK_KEYS, key % GLIBC_BLOCK_KEYS);
                let value_at = (within * GLIBC_ENTRY_BYTES) as i32 + GLIBC_VALUE_AT;
                Some(source(&[blocks + block as i32 * 8, value_at]))
            }
            Self::Musl { table } if key < MUSL_KEYS_MAX => Some(source(&[table, key as i32 * 8])),
            _ => None,
        }
    }

    /// A word of a module's thread-local storage (`__tls_get_addr`).
    pub fn block_word(self, module: u64, offset: u64) -> Option<Source> {
        if module == 0 || module > MODULES_MAX {
            return None;
        }
        let entry_bytes = match self {
            Self::Glibc { .. } => GLIBC_VECTOR_ENTRY_BYTES,
            Self::Musl { .. } => MUSL_VECTOR_ENTRY_BYTES,
        };
        let entry_at = i32::try_from(module * entry_bytes).ok()?;
        Some(source(&[VECTOR_AT, entry_at, i32::try_from(offset).ok()?]))
    }
}

/// So many steps, each adding an offset.
pub(crate) fn source(offsets: &[i32]) -> Source {
    let mut source = Source::default();
    for (to, offset) in source.offsets.iter_mut().zip(offsets) {
        *to = *offset;
        source.hops += 1;
    }
    source
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn glibc_keeps_32_values_in_the_thread_and_the_rest_in_blocks() {
        let libc = Libc::Glibc { first: 792 };
        assert_eq!(libc.value(0), Some(source(&[792])));
        assert_eq!(libc.value(31), Some(source(&[792 + 31 * 16])));
        assert_eq!(libc.value(33), Some(source(&[0x510 + 8, 16 + 8])));
        assert_eq!(libc.value(1024), None);
    }

    #[test]
    fn musl_keeps_all_values_in_a_table() {
        let libc = Libc::Musl { table: 0x80 };
        assert_eq!(libc.value(5), Some(source(&[0x80, 40])));
        assert_eq!(libc.value(128), None);
    }

    #[test]
    fn storage_of_a_module_is_found_through_the_vector() {
        assert_eq!(Libc::Glibc { first: 792 }.block_word(3, 24), Some(source(&[8, 48, 24])));
        assert_eq!(Libc::Musl { table: 128 }.block_word(3, 24), Some(source(&[8, 24, 24])));
        assert_eq!(Libc::Musl { table: 128 }.block_word(0, 24), None);
        assert_eq!(Libc::Musl { table: 128 }.block_word(u64::MAX, 24), None);
        assert_eq!(Libc::Musl { table: 128 }.block_word(1, u64::MAX), None);
    }
}
