//! A Go toolchain: the one on PATH, or Debian's unpacked into target/lab.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::BuildLock;
use crate::archive::Archive;
use crate::{process, workspace};

/// From this version on, Go fetches by itself the newer toolchain that a module asks for.
const OLDEST: (u32, u32) = (1, 21);
const DEBIAN: &str = "1.24";
const USUAL: &str = "/usr/local/go/bin/go";

/// The path of a `go` that can build every server of the lab.
pub(super) fn program() -> Result<PathBuf> {
    let installed = workspace::find_program("go").into_iter().chain([PathBuf::from(USUAL)]);
    if let Some(go) = installed.into_iter().find(is_new_enough) {
        return Ok(go);
    }
    let home = workspace::lab().join("go");
    let go = home.join(format!("usr/lib/go-{DEBIAN}/bin/go"));
    let _lock = BuildLock::take("go")?;
    if !go.is_file() {
        let archive = Archive::open()?;
        for package in [format!("golang-{DEBIAN}-src"), format!("golang-{DEBIAN}-go")] {
            archive.unpack(&package, &home)?;
        }
    }
    Ok(go)
}

fn is_new_enough(go: &PathBuf) -> bool {
    let version = process::capture(Command::new(go).args(["env", "GOVERSION"])).context("go env");
    version.is_ok_and(|version| parse(&version).is_some_and(|version| version >= OLDEST))
}

fn parse(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim().strip_prefix("go")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(parse("go1.26.8\n").unwrap() >= OLDEST);
        assert!(parse("go1.9.2").unwrap() < OLDEST);
        assert_eq!(parse("devel +abc"), None);
    }
}
