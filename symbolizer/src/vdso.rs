//! The vdso as a file: the kernel maps it into every process without one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::FromRawFd;

/// The real one has two to four pages.
const VDSO_BYTES_MAX: usize = 1024 * 1024;

/// A copy of this process's own vdso image, the same for all 64-bit processes, in anonymous memory: it can
/// stand as the file of an [`crate::Executable`].
///
/// # Errors
/// `NotFound` when the kernel gives this process no vdso; else what reading `/proc/self/maps` or
/// `memfd_create(2)` say.
pub fn vdso() -> io::Result<File> {
    // SAFETY: getauxval takes no pointer.
    let start = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) } as usize;
    let missing = || io::Error::new(io::ErrorKind::NotFound, "this process has no vdso");
    if start == 0 {
        return Err(missing());
    }
    let bytes = mapped_bytes(BufReader::new(File::open("/proc/self/maps")?), start)?.ok_or_else(missing)?;
    if bytes > VDSO_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a vdso of {bytes} bytes")));
    }
    // SAFETY: the kernel mapped these bytes readable and the vdso stays mapped and unchanged for good.
    let image = unsafe { std::slice::from_raw_parts(start as *const u8, bytes) };
    // SAFETY: the name is a NUL-terminated string.
    let fd = unsafe { libc::memfd_create(c"vdso".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    let mut file = unsafe { File::from_raw_fd(fd) };
    file.write_all(image)?;
    Ok(file)
}

/// Length of the mapping that begins at `start`.
fn mapped_bytes(maps: impl BufRead, start: usize) -> io::Result<Option<usize>> {
    for line in maps.lines() {
        let line = line?;
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let Some((first, last)) = range else { continue };
        if usize::from_str_radix(first, 16) == Ok(start) {
            return Ok(usize::from_str_radix(last, 16).ok().and_then(|end| end.checked_sub(start)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn the_copy_is_an_elf_image() {
        let file = vdso().unwrap();
        let mut magic = [0; 4];
        file.read_exact_at(&mut magic, 0).unwrap();
        assert_eq!(&magic, b"\x7fELF");
        assert!(file.metadata().unwrap().len() >= 4096);
    }

    #[test]
    fn only_the_mapping_that_begins_at_the_address_counts() {
        let maps = "1000-3000 r-xp 0 0:0 0 a\n3000-8000 r-xp 0 0:0 0 [vdso]\n";
        assert_eq!(mapped_bytes(maps.as_bytes(), 0x3000).unwrap(), Some(0x5000));
        assert_eq!(mapped_bytes(maps.as_bytes(), 0x2000).unwrap(), None);
    }
}
