//! What the unwind tables need of the kernel's maps.

use abi::{Executable, Image};

use crate::Error;
pub(crate) use crate::pages::Chunk;

/// The maps of pages, executables and images.
pub(crate) trait Kernel: Send {
    /// Adds chunk `number` (zeroed pages) to the pool, visible to the programs; its memory as mapped here.
    fn add_chunk(&mut self, number: u32) -> Result<Chunk, Error>;
    /// Writes the entry of a slot.
    fn set_executable(&mut self, slot: u32, executable: &Executable) -> Result<(), Error>;
    /// Writes the layout of an image; `key` is that of [`abi::image_key`].
    fn set_image(&mut self, key: u64, image: &Image) -> Result<(), Error>;
    /// Forgets the layout of an image; one that is not there is no error.
    fn remove_image(&mut self, key: u64);
}
