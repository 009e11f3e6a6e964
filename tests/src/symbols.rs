//! The functions of an ELF file, as its own symbol tables have them.

use std::collections::HashSet;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use object::{Object, ObjectSection, ObjectSegment, ObjectSymbol, SymbolKind};

use crate::names;

/// Sections whose code jumps to functions of other files.
const STUB_SECTIONS: [&str; 4] = [".plt", ".plt.got", ".plt.sec", ".iplt"];

#[derive(Debug, Clone)]
pub struct Symbols {
    /// By file offset, which no two overlap in a way that matters: the first of several names wins.
    functions: Vec<(Range<u64>, String)>,
    /// Readable, without parameters.
    names: HashSet<String>,
    /// File offsets of stubs.
    stubs: Vec<Range<u64>>,
}

/// What stands at a place of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    Function(&'a str),
    Stub,
}

impl Symbols {
    /// Both symbol tables of a file, and the names that its debug file has beside them.
    ///
    /// # Errors
    /// It is not there, or no ELF file.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        let mut symbols = Self::parse(&bytes).with_context(|| path.display().to_string())?;
        if let Some(debug) = debug_file(&bytes).and_then(|path| fs::read(path).ok()) {
            symbols.names.extend(Self::parse(&debug)?.names);
        }
        Ok(symbols)
    }

    /// # Errors
    /// It is no ELF file.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let file = object::File::parse(bytes)?;
        let segments: Vec<(Range<u64>, u64)> =
            file.segments().map(|it| (it.address()..it.address() + it.size(), it.file_range().0)).collect();
        let file_offset = |address: u64| {
            let segment = segments.iter().find(|(range, _)| range.contains(&address))?;
            Some(address - segment.0.start + segment.1)
        };
        let mut functions = Vec::new();
        let mut names = HashSet::new();
        for symbol in file.symbols().chain(file.dynamic_symbols()) {
            let Ok(name) = symbol.name() else { continue };
            if symbol.is_undefined() || name.is_empty() {
                continue;
            }
            // Assembler code may leave the kind out.
            if matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Unknown | SymbolKind::Label) {
                let readable = demangled(name.split('@').next().unwrap_or(name));
                names.insert(names::plain(&readable));
                if let Some(start) = file_offset(symbol.address()) {
                    functions.push((start..start + symbol.size().max(1), readable));
                }
            }
        }
        functions.sort_by(|a, b| (a.0.start, &a.1).cmp(&(b.0.start, &b.1)));
        let is_stub = |section: &object::Section<'_, '_>| {
            section.name().is_ok_and(|name| STUB_SECTIONS.contains(&name))
        };
        let stubs = file.sections().filter(is_stub).filter_map(|it| it.file_range());
        let stubs = stubs.map(|(start, length)| start..start + length).collect();
        Ok(Self { functions, names, stubs })
    }

    /// What stands at an offset of the file.
    pub fn at(&self, file_offset: u64) -> Option<Place<'_>> {
        if self.stubs.iter().any(|range| range.contains(&file_offset)) {
            return Some(Place::Stub);
        }
        let end = self.functions.partition_point(|(range, _)| range.start <= file_offset);
        let found = self.functions[..end].iter().rev().find(|(range, _)| range.contains(&file_offset))?;
        Some(Place::Function(&found.1))
    }

    /// Whether the file has a function of this name, without parameters.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }
}

/// The bytes of the section `.text`, by which two files with the same code are known.
///
/// # Errors
/// It is not there, or no ELF file, or has no code.
pub fn text_of(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    let file = object::File::parse(bytes.as_slice())?;
    let text = file.section_by_name(".text").context("no .text")?;
    Ok(text.data()?.to_vec())
}

/// In hexadecimal digits; `None` for a file without one.
///
/// # Errors
/// It is not there, or no ELF file.
pub fn build_id_of(path: &Path) -> Result<Option<String>> {
    build_id(&fs::read(path).with_context(|| path.display().to_string())?)
}

fn build_id(bytes: &[u8]) -> Result<Option<String>> {
    let id = object::File::parse(bytes)?.build_id()?.map(<[u8]>::to_vec);
    Ok(id.map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// Where distributions put the symbols that they take out of a file.
fn debug_file(bytes: &[u8]) -> Option<PathBuf> {
    let digits = build_id(bytes).ok()??;
    let (first, rest) = digits.split_at_checked(2)?;
    Some(PathBuf::from(format!("/usr/lib/debug/.build-id/{first}/{rest}.debug")))
}

fn demangled(name: &str) -> String {
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return format!("{rust:#}");
    }
    if name.starts_with("_Z")
        && let Ok(symbol) = cpp_demangle::Symbol::new(name)
        && let Ok(readable) = symbol.demangle()
    {
        return readable;
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_of_a_file_are_found_by_name_and_by_offset() -> Result<()> {
        let path = std::env::current_exe()?;
        let symbols = Symbols::read(&path)?;
        let own = "tests::symbols::demangled";
        assert!(symbols.has(own) && !symbols.has("tests::symbols::no_such_function"));
        let (range, _) = symbols.functions.iter().find(|(_, name)| name == own).context(own)?;
        assert_eq!(symbols.at(range.start), Some(Place::Function(own)));
        assert_eq!(symbols.at(range.end - 1), Some(Place::Function(own)));
        assert_ne!(symbols.at(range.end), Some(Place::Function(own)));
        assert!(!text_of(&path)?.is_empty());
        Ok(())
    }

    #[test]
    fn what_is_no_elf_file_is_refused() {
        assert!(Symbols::parse(b"#!/bin/sh\n").is_err());
    }
}
