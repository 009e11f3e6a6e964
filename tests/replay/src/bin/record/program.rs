//! A program of `tests/programs`, built for a recording.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use replay::Machine;
use tempfile::TempDir;

use crate::recording::Recording;

#[derive(Debug)]
pub(crate) struct Program {
    /// Holds the directory.
    _dir: TempDir,
    path: String,
    command: String,
}

impl Program {
    pub(crate) fn build(recording: &Recording) -> Result<Self> {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../programs").canonicalize()?;
        let dir = tempfile::Builder::new().prefix("kovar-").tempdir_in("/tmp")?;
        let stem = recording.sources.first().and_then(|file| file.split('.').next()).context("no source")?;
        let path = dir.path().join(stem).to_string_lossy().into_owned();
        let mut command = Command::new(recording.compiler);
        if recording.compiler == "go" {
            let arch = if recording.machine == Machine::Aarch64 { "arm64" } else { "amd64" };
            command.env("GOARCH", arch).env("CGO_ENABLED", "0");
            command.args(["build", "-trimpath", "-ldflags=-w"]);
        }
        let files: Vec<PathBuf> = recording.sources.iter().map(|file| sources.join(file)).collect();
        command.arg("-o").arg(&path).args(&files).args(recording.flags).current_dir(dir.path());
        let output = command.output().with_context(|| format!("cannot start {}", recording.compiler))?;
        if !output.status.success() {
            bail!("{} failed: {}", recording.compiler, String::from_utf8_lossy(&output.stderr));
        }
        let words = [&[recording.compiler], recording.sources, recording.flags].concat();
        Ok(Self { _dir: dir, path, command: words.join(" ") })
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// How it was built, without paths.
    pub(crate) fn command(&self) -> &str {
        &self.command
    }
}
