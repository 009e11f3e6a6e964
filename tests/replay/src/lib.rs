//! Recorded stacks of real programs, unwound again by the code that the kernel programs run.
//!
//! A case is one program: where its code was mapped, and samples of one of its threads, each with its registers and
//! as much of its memory as a walk can need. The executables are kept beside the cases, reduced to what unwinding
//! reads of them, with a list of their functions.

mod case;
mod compressed;
mod executable;
mod names;
mod reduced;
mod space;

pub use case::{Case, Facts, Machine, MappedFile, Region, SAMPLES_MAX, Sample};
pub use executable::{Executable, Function};
pub use names::{Names, chain_breach};
pub use reduced::{reduce, store_executable};
pub use space::{FRAMES_MAX, Recorded, Stack, unwind};

use std::path::{Path, PathBuf};

/// Where the cases lie.
pub fn cases_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")
}

/// Where the reduced executables lie that the cases share.
pub fn executables_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("executables")
}
