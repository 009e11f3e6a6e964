//! What is wrong with a configuration, each problem with its place.

use std::fmt;

/// Problems kept of one file; more are counted.
const PROBLEMS_MAX: usize = 100;

/// A place in the configuration file, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// One thing to repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) at: Option<Position>,
    pub(crate) text: String,
}

/// Every problem of one file, so that one run shows them all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problems {
    file: String,
    list: Vec<Problem>,
    omitted: usize,
}

impl Problems {
    pub(crate) fn new(file: impl Into<String>) -> Self {
        Self { file: file.into(), list: Vec::new(), omitted: 0 }
    }

    pub(crate) fn add(&mut self, at: Position, text: impl Into<String>) {
        self.push(Some(at), text.into());
    }

    /// A problem of the file as a whole.
    pub(crate) fn add_file(&mut self, text: impl Into<String>) {
        self.push(None, text.into());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len() + self.omitted
    }

    fn push(&mut self, at: Option<Position>, text: String) {
        if self.list.len() < PROBLEMS_MAX {
            self.list.push(Problem { at, text });
        } else {
            self.omitted += 1;
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted: Vec<&Problem> = self.list.iter().collect();
        sorted.sort_by_key(|problem| problem.at);
        for (i, problem) in sorted.into_iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            match problem.at {
                Some(at) => write!(f, "{}:{}:{}: {}", self.file, at.line, at.column, problem.text)?,
                None => write!(f, "{}: {}", self.file, problem.text)?,
            }
        }
        if self.omitted > 0 {
            write!(f, "\n{}: and {} more", self.file, self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
