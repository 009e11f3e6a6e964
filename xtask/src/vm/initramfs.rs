//! The guest's root: busybox, programs with their libraries, and a script as /init.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::cpio;
use crate::archive::Archive;
use crate::lab::BuildLock;
use crate::{process, workspace};

/// What lies in a guest's root beside busybox.
#[derive(Debug)]
pub(crate) struct Root {
    /// Of the archive; guests with different roots have different names.
    pub(crate) name: &'static str,
    /// The script that is the first process.
    pub(crate) init: PathBuf,
    /// Put into /bin.
    pub(crate) programs: Vec<Program>,
    /// Path in the guest and text.
    pub(crate) files: Vec<(&'static str, String)>,
}

/// A program of the guest, compiled or found here.
#[derive(Debug)]
pub(crate) enum Program {
    /// The release binary.
    Kovar,
    /// A C program, compiled with these flags and linked with the other files; its name is the first file's without the
    /// ending.
    C { source: &'static str, others: &'static [&'static str], flags: &'static [&'static str] },
    /// A binary, under its own name.
    Built(PathBuf),
}

impl Root {
    /// Builds the archive and gives its path.
    pub(super) fn build(&self) -> Result<PathBuf> {
        let home = workspace::lab().join("initramfs").join(self.name);
        fs::create_dir_all(&home).with_context(|| home.display().to_string())?;
        let _lock = BuildLock::take("initramfs")?;
        let busybox = busybox()?;
        let path = home.join("initramfs.cpio");
        let file = File::create(&path).with_context(|| path.display().to_string())?;
        let mut archive = cpio::Archive::new(BufWriter::new(file));
        for folder in ["/proc", "/sys", "/dev", "/tmp", "/run"] {
            archive.folder(folder)?;
        }
        archive.console()?;
        archive.executable("/init", &read(&self.init)?)?;
        archive.executable("/bin/busybox", &read(&busybox)?)?;
        archive.symlink("/bin/sh", "busybox")?;
        for (path, text) in &self.files {
            archive.executable(path, text.as_bytes())?;
        }
        let mut libraries = Vec::new();
        for program in &self.programs {
            let binary = program.prepare(&home)?;
            let name = binary.file_name().unwrap_or_default().to_string_lossy();
            archive.executable(&format!("/bin/{name}"), &read(&binary)?)?;
            libraries.extend(libraries_of(&binary)?);
        }
        libraries.sort();
        libraries.dedup();
        for library in libraries {
            archive.executable(&library, &read(Path::new(&library))?)?;
        }
        archive.finish().with_context(|| path.display().to_string())?;
        Ok(path)
    }
}

impl Program {
    /// The binary that the guest gets.
    fn prepare(&self, home: &Path) -> Result<PathBuf> {
        match self {
            Self::Kovar => {
                let kovar = home.join("kovar");
                process::capture(Command::new("strip").arg("-o").arg(&kovar).arg(workspace::kovar()))?;
                Ok(kovar)
            }
            Self::C { source, others, flags } => {
                let source = workspace::root().join(source);
                let program = home.join(source.file_stem().unwrap_or_default());
                let others = others.iter().map(|other| workspace::root().join(other));
                let mut gcc = Command::new("gcc");
                process::capture(gcc.args(*flags).arg("-o").arg(&program).arg(&source).args(others))?;
                Ok(program)
            }
            Self::Built(path) => Ok(path.clone()),
        }
    }
}

fn busybox() -> Result<PathBuf> {
    let home = workspace::lab().join("busybox");
    let candidates = ["bin/busybox", "usr/bin/busybox"].map(|path| home.join(path));
    let find = || candidates.iter().find(|path| path.is_file()).cloned();
    if find().is_none() {
        Archive::open()?.unpack("busybox-static/bookworm", &home)?;
    }
    match find() {
        Some(busybox) => Ok(busybox),
        None => bail!("busybox-static holds no busybox"),
    }
}

fn libraries_of(program: &Path) -> Result<Vec<String>> {
    let listing = process::capture(Command::new("ldd").arg(program).env("LC_ALL", "C"));
    match listing {
        Ok(listing) => parse_ldd(&listing).with_context(|| program.display().to_string()),
        // What ldd says of a static program is an error.
        Err(error) if format!("{error:#}").contains("not a dynamic executable") => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn parse_ldd(listing: &str) -> Result<Vec<String>> {
    let mut libraries = Vec::new();
    for line in listing.lines().map(str::trim) {
        let path = line.split(" => ").last().and_then(|target| target.split(" (").next()).unwrap_or_default();
        if path.starts_with('/') {
            libraries.push(path.to_owned());
        } else if path == "not found" {
            bail!("a library is missing: {line}");
        }
    }
    Ok(libraries)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_and_the_libraries_are_found_and_the_vdso_is_not() {
        let listing = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n\tstatically linked\n";
        assert_eq!(
            parse_ldd(listing).unwrap(),
            ["/lib/x86_64-linux-gnu/libz.so.1", "/lib64/ld-linux-x86-64.so.2"]
        );
    }

    #[test]
    fn a_missing_library_is_an_error() {
        let error = parse_ldd("\tlibelf.so.1 => not found\n").unwrap_err().to_string();
        assert!(error.contains("libelf.so.1"), "{error}");
    }
}
