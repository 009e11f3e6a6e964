//! An executable as a walk sees it: its packed unwind table, and the names of its functions.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use abi::Page;
use anyhow::{Context, Result};
use unwind::{Found, Pages};

use crate::compressed;

/// Bytes of an executable and of its list of functions.
const EXECUTABLE_BYTES_MAX: u64 = 256 << 20;
const FUNCTIONS_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug)]
pub struct Executable {
    pub name: String,
    /// Page N + 1 of its own pool.
    pages: Vec<Page>,
    table: abi::Executable,
    functions: Vec<Function>,
}

/// File offsets of a function, the end exclusive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    pub start: u32,
    pub end: u32,
    pub name: String,
}

impl Executable {
    /// Reads a reduced executable and its functions.
    ///
    /// # Errors
    /// A file is missing or is none of these, or its unwind information cannot be read.
    pub fn read(dir: &Path, name: &str) -> Result<Self> {
        let mut file = tempfile::tempfile()?;
        file.write_all(&compressed::read(&file_of(dir, name, "elf"), EXECUTABLE_BYTES_MAX)?)?;
        let path = file_of(dir, name, "functions");
        let text = String::from_utf8(compressed::read(&path, FUNCTIONS_BYTES_MAX)?)?;
        let functions = text.lines().map(parse).collect::<Option<_>>();
        Self::new(
            name,
            &file,
            functions.with_context(|| format!("{} is no list of functions", path.display()))?,
        )
    }

    /// Builds the unwind table of a file.
    ///
    /// # Errors
    /// Its unwind information cannot be read.
    pub fn new(name: &str, file: &File, functions: Vec<Function>) -> Result<Self> {
        let rows = tables::read(file).with_context(|| format!("unwind information of {name}"))?;
        let numbers: Vec<u32> = (1..).take(tables::needed(&rows)).collect();
        let (numbered, table) = tables::pack(&rows, &numbers)?;
        let mut pages = vec![[0; abi::PAGE_WORDS]; numbers.len()];
        for (number, page) in numbered {
            *pages.get_mut(number as usize - 1).context("a page number")? = page;
        }
        Ok(Self { name: name.to_owned(), pages, table, functions })
    }

    /// Writes its list of functions.
    pub(crate) fn write_functions(dir: &Path, name: &str, functions: &[Function]) -> Result<()> {
        let mut text = String::new();
        for Function { start, end, name } in functions {
            writeln!(text, "{start:x} {end:x} {name}")?;
        }
        compressed::write(&file_of(dir, name, "functions"), text.as_bytes())
    }

    /// Writes its reduced content.
    pub(crate) fn write_content(dir: &Path, name: &str, content: &[u8]) -> Result<()> {
        compressed::write(&file_of(dir, name, "elf"), content)
    }

    /// What the table says of a file offset.
    pub fn rule(&self, file_offset: u32) -> Found {
        unwind::find_rule(self, &self.table, file_offset)
    }

    /// The function that holds a file offset.
    pub fn function(&self, file_offset: u32) -> Option<&str> {
        let behind = self.functions.partition_point(|function| function.start <= file_offset);
        let function = self.functions.get(behind.checked_sub(1)?)?;
        (file_offset < function.end).then_some(function.name.as_str())
    }
}

impl Pages for Executable {
    fn page(&self, number: u32) -> Option<&Page> {
        self.pages.get((number as usize).checked_sub(1)?)
    }
}

fn file_of(dir: &Path, name: &str, kind: &str) -> std::path::PathBuf {
    dir.join(format!("{name}.{kind}.gz"))
}

fn parse(line: &str) -> Option<Function> {
    let mut words = line.splitn(3, ' ');
    let mut hex = || u32::from_str_radix(words.next()?, 16).ok();
    let (start, end) = (hex()?, hex()?);
    Some(Function { start, end, name: words.next()?.to_owned() })
}
