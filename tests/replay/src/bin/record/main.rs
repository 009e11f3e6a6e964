//! Records the cases of `tests/replay`: builds programs of `tests/programs`, stops them at random moments and at
//! every new instruction after it, and keeps registers and stacks. Names of recordings are its arguments; all when
//! there are none.
#![allow(clippy::print_stderr, reason = "a command line tool speaks to its terminal")]

mod live;
mod maps;
mod program;
mod ptrace;
mod recording;
mod remote;
mod tracee;

use std::collections::HashMap;
use std::fs::{self, File};

use anyhow::{Context, Result};
use replay::{Case, Executable, Facts, MappedFile, Recorded};

use maps::Mapped;
use program::Program;
use recording::{RECORDINGS, Recording};

fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let unknown = wanted.iter().find(|name| !RECORDINGS.iter().any(|recording| recording.name == **name));
    if let Some(name) = unknown {
        let names: Vec<&str> = RECORDINGS.iter().map(|recording| recording.name).collect();
        anyhow::bail!("no recording {name:?}; there are {}", names.join(", "));
    }
    for recording in RECORDINGS {
        if wanted.is_empty() || wanted.iter().any(|name| name == recording.name) {
            record(recording).with_context(|| recording.name)?;
        }
    }
    remove_unused_executables()
}

fn record(recording: &Recording) -> Result<()> {
    let program = Program::build(recording)?;
    let mut tracee = tracee::start(recording, &program)?;
    let mapped = tracee.mappings()?;
    let mut contents = HashMap::new();
    let mut files = Vec::new();
    for mapping in &mapped {
        let executable = match (&mapping.path, contents.get(&mapping.path)) {
            (None, _) => None,
            (Some(_), Some(name)) => Some(String::clone(name)),
            (Some(path), None) => {
                let content = maps::content(mapping, path, &mut *tracee)?;
                let name = replay::store_executable(&replay::executables_dir(), file_name(path), &content)?;
                contents.insert(mapping.path.clone(), name.clone());
                Some(name)
            }
        };
        let Mapped { start, end, file_offset, .. } = *mapping;
        files.push(MappedFile { start, end, file_offset, executable });
    }
    let facts = Facts {
        program: program.command().to_owned(),
        machine: recording.machine,
        chain: recording.chain.iter().map(|&level| level.to_owned()).collect(),
        incomplete_max: recording.incomplete_max,
        incomplete_why: recording.incomplete_why.to_owned(),
        stack_start: tracee.stack_start()?,
        mappings: files,
    };
    let recorded = Recorded::new(&facts, |name| Executable::read(&replay::executables_dir(), name))?;
    let samples = live::samples(recording, &recorded, file_name(program.path()), &mut *tracee)?;
    let case = Case { name: recording.name.to_owned(), facts, samples };
    eprintln!("{}: {} samples", case.name, case.samples.len());
    case.breaches(&recorded).iter().for_each(|breach| eprintln!("{breach}"));
    case.write(&replay::cases_dir())?;
    case.bless(&replay::cases_dir(), &recorded)
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path).trim_matches(['[', ']'])
}

/// Executables that no case names any more.
fn remove_unused_executables() -> Result<()> {
    let cases = Case::read_all(&replay::cases_dir())?;
    let mappings = cases.iter().flat_map(|case| &case.facts.mappings);
    let used: Vec<&str> = mappings.filter_map(|mapping| mapping.executable.as_deref()).collect();
    for entry in fs::read_dir(replay::executables_dir())? {
        let path = entry?.path();
        let file = path.file_name().context("a file has a name")?.to_string_lossy().into_owned();
        if !used.iter().any(|name| file.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'))) {
            fs::remove_file(&path).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

/// Opens a file, its path in the error.
fn open(path: &str) -> Result<File> {
    File::open(path).with_context(|| path.to_owned())
}
