//! Programs to be profiled, compiled from `tests/programs` or from text.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::process::{self, Process};

const COMPILE_LIMIT: Duration = Duration::from_secs(120);

/// An executable in a temporary directory of its own.
#[derive(Debug)]
pub struct Program {
    dir: TempDir,
    path: PathBuf,
}

impl Program {
    /// Compiles `tests/programs/<file>` with gcc, g++ or rustc, by its ending. The process has the name of the
    /// file without its ending.
    ///
    /// # Errors
    /// There is no such file or compiler, or it does not compile.
    pub fn compile(file: &str, flags: &[&str]) -> Result<Self> {
        Self::compile_as(stem(file)?, file, flags)
    }

    /// Like [`Self::compile`], under another name.
    ///
    /// # Errors
    /// Those of [`Self::compile`].
    pub fn compile_as(name: &str, file: &str, flags: &[&str]) -> Result<Self> {
        let program = Self::empty(name)?;
        Self::compile_to(&program.path, file, flags)?;
        Ok(program)
    }

    /// Like [`Self::compile`], to a path.
    ///
    /// # Errors
    /// Those of [`Self::compile`].
    pub fn compile_to(path: &Path, file: &str, flags: &[&str]) -> Result<()> {
        let source = sources().join(file);
        let compiler = match source.extension().and_then(|ending| ending.to_str()) {
            Some("c") => "gcc",
            Some("cpp") => "g++",
            Some("rs") => "rustc",
            _ => bail!("no compiler for {file}"),
        };
        let mut command = Command::new(compiler);
        // Libraries stand after what uses them.
        command.arg("-o").arg(path).arg(&source).args(flags);
        finish(command, path)
    }

    /// Builds with a command of the caller's own, which is given the path of the executable and the directory of the
    /// sources.
    ///
    /// # Errors
    /// There is no such compiler, or it fails.
    pub fn build(name: &str, command: impl FnOnce(&Path, &Path) -> Command) -> Result<Self> {
        let program = Self::empty(name)?;
        finish(command(&program.path, &sources()), &program.path)?;
        Ok(program)
    }

    fn empty(name: &str) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("kovar-program-").tempdir()?;
        let path = dir.path().join(name);
        Ok(Self { dir, path })
    }

    /// The split program, whose work_a, work_b and work_c take 60, 30 and 10 percent of the time below dispatch.
    ///
    /// # Errors
    /// Those of [`Self::compile`].
    pub fn split() -> Result<Self> {
        Self::split_as("split")
    }

    /// Like [`Self::split`], under a name that no other process has.
    ///
    /// # Errors
    /// Those of [`Self::compile`].
    pub fn split_as(name: &str) -> Result<Self> {
        Self::compile_as(name, "split.c", &["-O0", "-g", "-fno-omit-frame-pointer", "-pthread"])
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory it is in, for whatever else the test needs.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts it; the guard stops it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, arguments: &[&str]) -> Result<Process> {
        let mut command = Command::new(&self.path);
        command.args(arguments);
        Process::start(command)
    }

    /// Changes the file by a program such as strip; the path stands after the arguments.
    ///
    /// # Errors
    /// The program is not there or fails.
    pub fn change(&self, program: &str, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(program);
        command.args(arguments).arg(&self.path);
        process::finish(command, COMPILE_LIMIT)?.success().with_context(|| program.to_owned())?;
        Ok(())
    }

    /// Deletes the file; what runs of it goes on.
    ///
    /// # Errors
    /// The system's.
    pub fn delete(&self) -> Result<()> {
        fs::remove_file(&self.path).with_context(|| self.path.display().to_string())
    }
}

fn stem(file: &str) -> Result<&str> {
    file.split('.').next().filter(|stem| !stem.is_empty()).with_context(|| format!("no name in {file:?}"))
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("programs")
}

/// Runs a compiler in the directory of what it makes.
fn finish(mut command: Command, path: &Path) -> Result<()> {
    let name = format!("{command:?}");
    command.current_dir(path.parent().context("a directory")?);
    process::finish(command, COMPILE_LIMIT)?.success().with_context(|| name)?;
    Ok(())
}
