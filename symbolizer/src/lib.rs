//! Address to name: native executables, the kernel, the vdso, JIT maps.
//!
//! Everything read here may come from an untrusted container: files are read with stated limits, names taken
//! from inside a file are never opened, and a lookup that finds nothing says why with a [`Reason`].

mod config;
mod demangle;
mod elf;
pub mod kallsyms;
pub mod layout;
pub mod perf_map;
mod query;
mod resolver;
pub mod sigbus;
mod stats;
mod symbolizer;
mod vdso;

pub use config::Config;
pub use demangle::{NAME_BYTES_MAX, demangle};
pub use query::{Executable, Frame, Query, Reason, Resolved};
pub use resolver::Resolver;
pub use stats::Stats;
pub use symbolizer::{Full, Symbolizer};
pub use vdso::vdso;
