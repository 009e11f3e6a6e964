//! Why an interpreter cannot be followed.

/// What keeps an executable or a process from being followed; each is told by its name, none is guessed around.
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
    #[error("{interpreter} {version} is not known")]
    VersionUnknown { interpreter: &'static str, version: String },
    #[error("{0} was not found")]
    Missing(&'static str),
    #[error("{what} is {found}, {known} is known")]
    Unlike { what: &'static str, found: u64, known: u64 },
    /// The interpreter is still starting: to be tried again.
    #[error("{0} is not set up yet")]
    NotReady(&'static str),
    #[error("the process's memory cannot be read at {0:#x}")]
    Unreadable(u64),
}
