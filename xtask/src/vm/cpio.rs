//! The archive format that the kernel unpacks as its first root ("newc", Documentation/driver-api/early-userspace).

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;
const SYMLINK: u32 = 0o120_777;
const CONSOLE: u32 = 0o020_600;
const END: &str = "TRAILER!!!";

/// Writes entries with the folders they lie in.
#[derive(Debug)]
pub(super) struct Archive<W> {
    out: W,
    inode: u32,
    folders: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, inode: 0, folders: BTreeSet::new() }
    }

    /// A folder and those above it; the path begins with a slash.
    pub(super) fn folder(&mut self, path: &str) -> io::Result<()> {
        let ancestors: Vec<&Path> = Path::new(path).ancestors().collect();
        for folder in ancestors.iter().rev().filter(|folder| folder.parent().is_some()) {
            let folder = folder.to_string_lossy().into_owned();
            if self.folders.insert(folder.clone()) {
                self.entry(&folder, DIRECTORY, (0, 0), &[])?;
            }
        }
        Ok(())
    }

    pub(super) fn executable(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        self.parent(path)?;
        self.entry(path, EXECUTABLE, (0, 0), content)
    }

    pub(super) fn symlink(&mut self, path: &str, to: &str) -> io::Result<()> {
        self.parent(path)?;
        self.entry(path, SYMLINK, (0, 0), to.as_bytes())
    }

    /// The device that the first process's input and output are.
    pub(super) fn console(&mut self) -> io::Result<()> {
        self.parent("/dev/console")?;
        self.entry("/dev/console", CONSOLE, (5, 1), &[])
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        self.entry(END, 0, (0, 0), &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn parent(&mut self, path: &str) -> io::Result<()> {
        match Path::new(path).parent().and_then(Path::to_str) {
            Some(parent) => self.folder(parent),
            None => Ok(()),
        }
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) -> io::Result<()> {
        let name = path.trim_start_matches('/');
        let size = u32::try_from(content.len()).map_err(|_overflow| {
            io::Error::new(io::ErrorKind::FileTooLarge, format!("{path} is over 4 GiB"))
        })?;
        let name_bytes = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        self.inode += 1;
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_bytes, 0]
            .map(|f| format!("{f:08x}"));
        write!(self.out, "070701{}{name}\0", fields.concat())?;
        self.pad(110 + name.len() + 1)?;
        self.out.write_all(content)?;
        self.pad(content.len())
    }

    fn pad(&mut self, bytes: usize) -> io::Result<()> {
        self.out.write_all(&[0; 3][..bytes.next_multiple_of(4) - bytes])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_once_and_before_what_lies_in_them() {
        let mut archive = Archive::new(Vec::new());
        archive.executable("/usr/bin/a", b"12345").unwrap();
        archive.symlink("/usr/bin/b", "a").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        let at = |name: &str| text.find(&format!("{name}\0")).unwrap();
        assert!(at("usr") < at("usr/bin") && at("usr/bin") < at("usr/bin/a"));
        assert_eq!(text.matches("070701").count(), 5);
    }

    #[test]
    fn a_header_says_the_size_of_what_follows() {
        let mut archive = Archive::new(Vec::new());
        archive.executable("/init", b"#!/bin/sh\n").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(&bytes[54..62], b"0000000a");
        assert_eq!(&bytes[94..102], b"00000005");
        assert_eq!(&bytes[110..126], b"init\0\0#!/bin/sh\n");
    }
}
