//! What each interpreter implements: recognise a file, attach to a process, name a function.
//!
//! To add one, copy `python.rs` and its folder: a `Loader` that knows a file by what it exports, a `Data` with what is
//! the same in all its processes, an `Instance` with what one process needs.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use crate::{Elf, Error, Libc, Memory};

/// Recognises one language's interpreter.
pub trait Loader: Debug + Send + Sync {
    /// The language, as metrics and messages name it.
    fn name(&self) -> &'static str;

    /// Whether an exported symbol is looked at by [`Self::recognise`].
    fn is_wanted(&self, symbol: &[u8]) -> bool;

    /// What is to be kept of a file that is such an interpreter; `None` for any other file.
    ///
    /// # Errors
    /// When it is one that cannot be followed; why.
    fn recognise(&self, elf: &Elf<'_>) -> Result<Option<Arc<dyn Data>>, Error>;
}

/// What is the same in all processes that map one file; kept by the file's build id.
pub trait Data: Debug + Send + Sync {
    /// The interpreter's version, for messages.
    fn version(&self) -> String;

    /// Where the file's native code runs the language, link addresses.
    fn code(&self) -> &NativeCode;

    /// The interpreter in one process, where the file's addresses are `bias` higher than in the file. `libc` is the
    /// library that the process maps.
    ///
    /// # Errors
    /// [`Error::NotReady`] while it starts; others are for good.
    fn attach(
        &self,
        bias: u64,
        libc: Option<Libc>,
        memory: &mut dyn Memory,
    ) -> Result<Box<dyn Instance>, Error>;
}

/// The interpreter in one process image.
pub trait Instance: Debug + Send {
    /// What the kernel's walk needs.
    fn layout(&self) -> Layout;

    /// Reads what is known of a code object that a walk found.
    ///
    /// # Errors
    /// When the object is not there any more.
    fn function(&self, code: Code, memory: &mut dyn Memory) -> Result<Function, Unnamed>;
}

/// Native code that runs the language. Functions of it stand for the language's own frames and are not shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NativeCode {
    /// The evaluation loop: one native frame here runs one or more of the language's frames.
    pub evaluation: Vec<Range<u64>>,
    /// Parts that the loop calls in its own stead, such as one function for each instruction.
    pub parts: Vec<Range<u64>>,
}

/// What the kernel's walk of an interpreter needs; one variant for each of its programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    Python(python::Layout),
}

/// A code object as a walk found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code {
    pub address: u64,
    /// What tells it from another one at the same address.
    pub checksum: u32,
}

/// A function of the language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub file: String,
    /// 0 when it is not known.
    pub first_line: u32,
    /// Where each line begins: byte offsets of instructions, rising, and line numbers; 0 stands for none.
    pub lines: Vec<(u32, u32)>,
    /// Whether a limit cut the name, the file or the lines.
    pub is_cut: bool,
}

impl Function {
    /// The line of an instruction; the first line where it is not known.
    pub fn line(&self, instruction: u32) -> u32 {
        let after = self.lines.partition_point(|(start, _)| *start <= instruction);
        let line = after.checked_sub(1).and_then(|index| self.lines.get(index)).map_or(0, |(_, line)| *line);
        if line == 0 || instruction == python::INSTRUCTION_UNKNOWN { self.first_line } else { line }
    }
}

/// Why a code object has no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unnamed {
    #[error("the code object cannot be read")]
    Unreadable,
    #[error("another object has taken its place")]
    Replaced,
    #[error("what it names is no text")]
    NotText,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reaches_to_where_the_next_begins() {
        let function = Function {
            name: String::new(),
            file: String::new(),
            first_line: 10,
            lines: vec![(2, 11), (8, 0), (12, 13)],
            is_cut: false,
        };
        let lines = [0, 2, 7, 8, 12, 1000, python::INSTRUCTION_UNKNOWN];
        assert_eq!(lines.map(|instruction| function.line(instruction)), [10, 11, 11, 10, 13, 13, 10]);
    }
}
