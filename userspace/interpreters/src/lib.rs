//! Language interpreters: recognised, their offsets found, their code named.

mod elf;
mod error;
mod libc;
mod loader;
mod memory;
mod python;
mod x86;

pub use self::libc::Libc;
pub use self::python::Python;
pub use elf::{Elf, Symbol, Symbols};
pub use error::Error;
pub use loader::{Code, Data, Function, Instance, Layout, Loader, NativeCode, Unnamed};
pub use memory::{Memory, Process, Walked};

/// For fuzzing: readers of what stands in a process.
#[doc(hidden)]
pub mod part {
    pub use crate::python::part::{read_code, read_debug_offsets, read_lines};
}
