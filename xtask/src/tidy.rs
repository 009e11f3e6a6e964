//! `tidy`: what the compiler does not check. Each finding names file, line and rule.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

mod attributes;
mod examples;
mod exceptions;
mod header;
mod lengths;
mod packages;
mod readme;
mod todo;

use crate::workspace;

/// Where Rust sources lie; build output lies elsewhere.
const SOURCE_DIRS: [&str; 6] = ["bpf", "fuzz", "symbolizer", "userspace", "xtask", "tests"];

/// A broken rule and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    file: String,
    /// Counted from 1.
    line: usize,
    rule: String,
}

impl Finding {
    fn new(file: impl Into<String>, line: usize, rule: impl Into<String>) -> Self {
        Self { file: file.into(), line, rule: rule.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.rule)
    }
}

/// A Rust file, its path relative to the root.
struct Source {
    path: String,
    text: String,
    syntax: syn::File,
}

impl Source {
    fn parse(path: &str, text: &str) -> Result<Self> {
        let syntax = syn::parse_file(text).with_context(|| format!("{path} is not Rust"))?;
        Ok(Self { path: path.to_owned(), text: text.to_owned(), syntax })
    }
}

pub(crate) fn run() -> Result<bool> {
    let findings = findings(&workspace::root())?;
    for finding in &findings {
        println!("{finding}");
    }
    println!("tidy: {} findings", findings.len());
    Ok(findings.is_empty())
}

fn findings(root: &Path) -> Result<Vec<Finding>> {
    let packages = packages::read(root)?;
    let exceptions = exceptions::read()?;
    let mut findings = packages::check(&packages);
    let mut lengths = Vec::new();
    for source in sources(root)? {
        findings.extend(header::check(&source));
        findings.extend(attributes::check(&source));
        findings.extend(todo::check(&source));
        lengths.extend(lengths::measure(&source));
    }
    findings.extend(exceptions::check(&lengths, &exceptions));
    findings.extend(readme::check(root, &packages));
    findings.extend(examples::check(root));
    findings.sort_by(|a, b| (&a.file, a.line, &a.rule).cmp(&(&b.file, b.line, &b.rule)));
    Ok(findings)
}

fn sources(root: &Path) -> Result<Vec<Source>> {
    let mut files = Vec::new();
    for dir in SOURCE_DIRS {
        collect(&root.join(dir), &mut files)?;
    }
    files.sort();
    files
        .iter()
        .map(|file| {
            let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
            let path = file.strip_prefix(root).unwrap_or(file).to_string_lossy();
            Source::parse(&path, &text)
        })
        .collect()
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry.with_context(|| dir.display().to_string())?;
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type().with_context(|| path.display().to_string())?;
        let is_output = ["target", "node_modules"].iter().any(|output| name == *output);
        if kind.is_dir() && !is_output {
            collect(&path, files)?;
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() {
        let findings = findings(&workspace::root()).unwrap();
        let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
        assert!(lines.is_empty(), "\n{}", lines.join("\n"));
    }

    #[test]
    fn a_finding_names_file_line_and_rule() {
        assert_eq!(Finding::new("a/b.rs", 7, "too long").to_string(), "a/b.rs:7: too long");
    }
}
