//! Files in memory: real ones with a descriptor, which may be longer than what was written to them.

use std::fs::File;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;

/// The longest file: more than any machine's memory.
const SIZE_BITS_MAX: u8 = 42;

/// The first byte chooses how long the file is: as its content, or a power of two.
pub(crate) fn split(data: &[u8]) -> Option<(u64, &[u8])> {
    let (choice, content) = data.split_first()?;
    let size = match choice % (SIZE_BITS_MAX + 1) {
        bits @ 12.. => 1u64 << bits,
        _ => 0,
    };
    Some((size.max(content.len() as u64), content))
}

/// A file of `size` bytes that begins with `content`.
pub(crate) fn sparse(content: &[u8], size: u64) -> File {
    // SAFETY: a NUL-terminated name.
    let fd = unsafe { libc::memfd_create(c"fuzz".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0, "memfd_create: {}", std::io::Error::last_os_error());
    // SAFETY: a new descriptor that nobody else owns.
    let file = unsafe { File::from_raw_fd(fd) };
    let made = file.write_all_at(content, 0).and_then(|()| file.set_len(size));
    made.unwrap_or_else(|error| panic!("a file of {size} bytes: {error}"));
    file
}
