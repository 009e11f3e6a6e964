//! What can go wrong with the store, by what the caller can do about it.

use std::io;
use std::path::{Path, PathBuf};

/// An error of the store; each message names the thing and the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A limit that cannot work. Change the configuration.
    #[error("store at {}: {what}", path.display())]
    Config { path: PathBuf, what: &'static str },
    /// Another process, or another `Store` of this one, has the directory. Stop it or use another path.
    #[error("store at {} is in use by another process: stop it, or give this one a different storage path", path.display())]
    Locked { path: PathBuf },
    /// The file system is full. What is stored stays; the next append tries again.
    #[error("no space left to append to {}: free space on its file system, or lower the store's size limit", path.display())]
    Full {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// One record is larger than the store takes. It can never be appended.
    #[error("record of {bytes} bytes for the store at {} is over its limit of {bytes_max} bytes: push smaller batches, or raise the store's size limit", path.display())]
    TooLarge { path: PathBuf, bytes: u64, bytes_max: u64 },
    /// A query whose range ends before it begins.
    #[error(
        "the range ends ({to_unix_ms}) before it begins ({from_unix_ms}), in milliseconds since 1970: swap them"
    )]
    Range { from_unix_ms: i64, to_unix_ms: i64 },
    /// Anything else the file system said.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// `Full` where the file system is full or the quota used up, else `Io`.
    pub(crate) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path, source },
            _ => Self::Io { doing, path, source },
        }
    }
}
