//! What is asked of the resolver, and what it answers.

use std::fs::File;
use std::sync::Arc;

/// An executable file held open, so that deleted files and other mount namespaces' files keep working.
#[derive(Debug)]
pub struct Executable {
    /// Unique among the executables of this process's life.
    pub id: u64,
    pub file: File,
    /// As its process sees it: never opened, for people only.
    pub path: String,
    /// May be empty.
    pub build_id: Vec<u8>,
    /// Bytes of `.symtab`, `.dynsym` and their string tables.
    pub symbol_bytes: u64,
    /// Bytes of the `.debug_*` sections.
    pub debug_bytes: u64,
}

/// One address to name.
#[derive(Clone, Debug)]
pub enum Query {
    Kernel {
        address: u64,
    },
    User {
        executable: Arc<Executable>,
        file_offset: u64,
    },
    /// An address in memory that belongs to no file; `pid` is a thread group id as `/proc` shows it.
    Jit {
        pid: u32,
        address: u64,
    },
}

/// One function; several make an address when calls were inlined there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Demangled; kernel functions outside the core image carry ` [module]`.
    pub name: Arc<str>,
    pub file: Option<Arc<str>>,
    /// 0 when unknown.
    pub line: u32,
    /// Line where the function begins, 0 when unknown.
    pub start_line: u32,
}

/// Innermost inlined function first, never empty.
pub type Resolved = Result<Arc<[Frame]>, Reason>;

/// Why an address has no name. Closed, so that every one of them is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Reason {
    #[error("no symbol covers the address")]
    NoSymbol,
    #[error("not an ELF program or library of this machine")]
    NotElf,
    #[error("the symbols exceed the size limit")]
    TooLarge,
    #[error("the process is gone")]
    ProcessGone,
    #[error("the kernel hides its symbol addresses (kernel.kptr_restrict, or CAP_SYSLOG is missing)")]
    KallsymsHidden,
    #[error("the file could not be read or makes no sense")]
    Unreadable,
    #[error("the symbol reader panicked on the file")]
    Panicked,
}

impl Reason {
    pub const ALL: [Self; 7] = [
        Self::NoSymbol,
        Self::NotElf,
        Self::TooLarge,
        Self::ProcessGone,
        Self::KallsymsHidden,
        Self::Unreadable,
        Self::Panicked,
    ];

    /// The value of a metric's `reason` label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoSymbol => "no_symbol",
            Self::NotElf => "not_elf",
            Self::TooLarge => "too_large",
            Self::ProcessGone => "process_gone",
            Self::KallsymsHidden => "kallsyms_hidden",
            Self::Unreadable => "unreadable",
            Self::Panicked => "panicked",
        }
    }

    /// Position in [`Reason::ALL`] and in [`crate::Stats::unresolved`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl Frame {
    /// A function of which only the name is known.
    pub fn named(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), file: None, line: 0, start_line: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_sits_at_its_own_index_with_its_own_name() {
        let mut names = std::collections::HashSet::new();
        for (position, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), position);
            assert!(names.insert(reason.name()), "{} twice", reason.name());
        }
    }
}
