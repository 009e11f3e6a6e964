//! A table as a builder hands it over, and why there may be none.

use std::fs::File;

use abi::{Executable, Page};

use crate::executable::read_facts;

/// Reads a file's rows.
pub(crate) type Read = dyn Fn(&File) -> Result<Box<dyn Table>, Failure> + Send + Sync;

/// Bytes of a file's unwind sections, by its headers.
pub(crate) type Size = dyn Fn(&File) -> u64 + Send + Sync;

/// Rows and rules of one executable.
pub(crate) trait Table: Send {
    /// Pages that the table takes.
    fn pages(&self) -> usize;
    /// Writes the table into pages with these numbers, as many as [`Self::pages`], each of them once; the entry
    /// that leads to them, `None` when it cannot be written.
    fn fill(&self, numbers: &[u32], write: &mut dyn FnMut(u32, &Page)) -> Option<Executable>;
    /// Whether a limit or a malformed entry left anything out.
    fn is_incomplete(&self) -> bool;
}

macro_rules! failures {
    ($($(#[doc = $help:literal])+ $variant:ident = $name:literal;)+) => {
        /// Why an executable has no table.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Failure {
            $($(#[doc = $help])+ $variant,)+
        }

        impl Failure {
            /// All, in index order.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Value of the metric's label `reason`.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

failures! {
    /// The file was closed before it was sampled.
    Closed = "closed";
    /// The file could not be read.
    Io = "io";
    /// Not an ELF file of this machine, or its headers lie.
    NotReadable = "not_readable";
    /// The file has no unwind rows.
    NoRows = "no_rows";
    /// The rows could not be written into pages.
    NotPacked = "not_packed";
    /// The kernel refused the entry.
    Kernel = "kernel";
    /// The build panicked: a defect, which costs this file its table only.
    Panicked = "panicked";
}

/// Rows as the package `tables` reads them.
struct Packed {
    rows: tables::Rows,
    pages: usize,
}

/// Reads a file with the package `tables`.
pub(super) fn read(file: &File) -> Result<Box<dyn Table>, Failure> {
    let rows = tables::read(file).map_err(|error| match error {
        tables::Error::Io(_) => Failure::Io,
        _ => Failure::NotReadable,
    })?;
    packed(rows)
}

/// A table of rows, if there are any.
pub(super) fn packed(rows: tables::Rows) -> Result<Box<dyn Table>, Failure> {
    match tables::needed(&rows) {
        0 => Err(Failure::NoRows),
        pages => Ok(Box::new(Packed { rows, pages })),
    }
}

/// Bytes of a file's unwind sections.
pub(super) fn size(file: &File) -> u64 {
    read_facts(file).unwind_bytes
}

impl Table for Packed {
    fn pages(&self) -> usize {
        self.pages
    }

    fn fill(&self, numbers: &[u32], write: &mut dyn FnMut(u32, &Page)) -> Option<Executable> {
        tables::fill(&self.rows, numbers, write).ok()
    }

    fn is_incomplete(&self) -> bool {
        self.rows.dropped != tables::Dropped::default()
    }
}
