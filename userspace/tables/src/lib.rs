//! Unwind tables: rows from .eh_frame, .debug_frame and .gopclntab, packed into pages.
//!
//! ```no_run
//! let rows = tables::read(&std::fs::File::open("/bin/true")?)?;
//! let numbers: Vec<u32> = (1..).take(tables::needed(&rows)).collect();
//! let executable = tables::fill(&rows, &numbers, |_number, _page| {})?;
//! assert_eq!(executable.state, abi::EXECUTABLE_READY);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod blocks;
mod elf;
mod error;
mod expression;
mod frames;
mod go;
mod limited;
mod pack;
mod read;
mod rows;
mod rule;
mod span;
mod trampoline;

pub use error::Error;
pub use limited::Limited;
pub use pack::{fill, needed, pack};
pub use read::read;
pub use rows::{Dropped, ROWS_MAX, Rows};

/// For fuzzing: parts of a file on their own, as the link would find them in an x86-64 executable.
#[doc(hidden)]
pub mod part {
    pub use crate::read::{read_eh_frame, read_gopclntab};
}
