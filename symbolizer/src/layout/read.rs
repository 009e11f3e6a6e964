//! Bounded reads of a file and numbers in what was read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::query::Reason;

/// Bytes at an offset.
pub trait ReadAt {
    /// # Errors
    /// `UnexpectedEof` when there are fewer bytes, else what the file says.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let part = start.and_then(|start| self.get(start..)?.get(..buffer.len()));
        buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// The caller bounds `bytes`.
pub(super) fn read(file: &(impl ReadAt + ?Sized), offset: u64, bytes: u64) -> Result<Vec<u8>, Reason> {
    let bytes = usize::try_from(bytes).map_err(|_too_large| Reason::Unreadable)?;
    let mut buffer = vec![0; bytes];
    match file.read_exact_at(&mut buffer, offset) {
        Ok(()) => Ok(buffer),
        Err(_) => Err(Reason::Unreadable),
    }
}

pub(super) fn quarter(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes(array(bytes, at))
}

pub(super) fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(array(bytes, at))
}

pub(super) fn word(bytes: &[u8], at: usize, wide: bool) -> u64 {
    if wide { u64::from_ne_bytes(array(bytes, at)) } else { half(bytes, at).into() }
}

/// Zeros where `bytes` ends: callers read whole headers first.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}
