//! Why a file gives no rows.

/// What keeps a file from being read, or rows from being packed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("not a 64-bit little-endian ELF file")]
    NotElf64,
    #[error("machine {0} is not supported")]
    Machine(u16),
    #[error("the headers cannot be read")]
    Headers(#[source] object::Error),
    #[error("reading the file")]
    Io(#[from] std::io::Error),
    #[error("{given} pages were given, {needed} are needed")]
    Pages { given: usize, needed: usize },
}
