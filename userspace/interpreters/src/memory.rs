//! Memory of another process, in bounded pieces.

use std::io;

/// What an interpreter's structs are read from.
pub trait Memory {
    /// Fills `into` from an address; `None` when a byte of it cannot be read.
    fn read(&mut self, address: u64, into: &mut [u8]) -> Option<()>;
}

/// A word.
pub(crate) fn word(memory: &mut dyn Memory, address: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    memory.read(address, &mut bytes)?;
    Some(u64::from_le_bytes(bytes))
}

/// Four bytes.
pub(crate) fn half(memory: &mut dyn Memory, address: u64) -> Option<u32> {
    let mut bytes = [0; 4];
    memory.read(address, &mut bytes)?;
    Some(u32::from_le_bytes(bytes))
}

/// A live process, by `process_vm_readv`.
#[derive(Debug, Clone, Copy)]
pub struct Process {
    pid: i32,
}

impl Process {
    /// A process or thread of this number. Which process it is may change when it ends: the caller checks that.
    pub const fn new(pid: i32) -> Self {
        Self { pid }
    }

    fn try_read(self, address: u64, into: &mut [u8]) -> io::Result<usize> {
        let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
        let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: into.len() };
        // SAFETY: one local range, which `into` owns; the remote one is only looked at by the kernel.
        let read = unsafe { libc::process_vm_readv(self.pid, &raw const local, 1, &raw const remote, 1, 0) };
        usize::try_from(read).map_err(|_negative| io::Error::last_os_error())
    }
}

impl Memory for Process {
    fn read(&mut self, address: u64, into: &mut [u8]) -> Option<()> {
        (self.try_read(address, into).ok()? == into.len()).then_some(())
    }
}

/// The walk in user space: the same reads over a live process.
#[derive(Debug)]
pub struct Walked<'a, M>(pub &'a mut M);

impl<M: Memory> python::Memory for Walked<'_, M> {
    fn word(&mut self, address: u64) -> Option<u64> {
        word(self.0, address)
    }

    fn read(&mut self, address: u64, bytes: u32, into: &mut python::Block) -> Option<()> {
        let mut block = [0; python::BLOCK_BYTES_MAX];
        let block = block.get_mut(..bytes as usize)?;
        self.0.read(address, block)?;
        for (word, chunk) in into.words_mut().iter_mut().zip(block.chunks(8)) {
            let mut bytes = [0; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            *word = u64::from_le_bytes(bytes);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_and_what_is_not_mapped_is_none() {
        let value = 0x1234_5678_9abc_def0_u64;
        let mut own = Process::new(std::process::id() as i32);
        assert_eq!(word(&mut own, (&raw const value) as u64), Some(value));
        assert_eq!(half(&mut own, (&raw const value) as u64), Some(0x9abc_def0));
        assert_eq!(word(&mut own, 8), None);
        assert_eq!(word(&mut own, u64::MAX - 3), None);
    }
}
