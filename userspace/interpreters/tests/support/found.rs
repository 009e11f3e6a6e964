//! The interpreters that this machine has.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folders, separated by colons, each with a tree of a distribution that has a Python of its own.
const ROOTS: &str = "KOVAR_PYTHON_ROOTS";
/// Where such trees lie otherwise.
const LAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/lab/python");

/// A Python to start.
#[derive(Debug)]
pub(crate) struct Interpreter {
    pub(crate) name: String,
    program: PathBuf,
    root: Option<PathBuf>,
}

impl Interpreter {
    pub(crate) fn command(&self) -> Command {
        match &self.root {
            Some(root) => {
                let mut command = Command::new("chroot");
                command.arg(root).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        }
    }
}

/// All of them: pyenv's, the machine's own, and those of other trees.
pub(crate) fn found() -> Vec<Interpreter> {
    let mut found = Vec::new();
    let pyenv = env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv/versions"));
    for version in pyenv.map(|folder| entries(&folder)).unwrap_or_default() {
        if file_name(&version).starts_with("3.") {
            let name = format!("pyenv {}", file_name(&version));
            found.push(Interpreter { name, program: version.join("bin/python3"), root: None });
        }
    }
    for program in pythons(Path::new("/usr/bin")) {
        found.push(Interpreter { name: program.display().to_string(), program, root: None });
    }
    let roots = env::var_os(ROOTS).map(|roots| env::split_paths(&roots).collect());
    for root in roots.unwrap_or_else(|| entries(Path::new(LAB))) {
        for program in pythons(&root.join("usr/bin")) {
            let name = format!("{} of {}", file_name(&program), file_name(&root));
            let program = Path::new("/usr/bin").join(file_name(&program));
            found.push(Interpreter { name, program, root: Some(root.clone()) });
        }
    }
    found
}

fn pythons(folder: &Path) -> Vec<PathBuf> {
    let is_versioned = |name: &str| {
        let minor = name.strip_prefix("python3.");
        minor.is_some_and(|minor| minor.trim_end_matches('t').bytes().all(|byte| byte.is_ascii_digit()))
    };
    let mut found = entries(folder);
    found.retain(|path| is_versioned(&file_name(path)));
    found
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
