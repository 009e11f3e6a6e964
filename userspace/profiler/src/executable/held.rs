//! What a device, inode and path stand for.

use std::fs::File;
use std::sync::Arc;

use super::binary::Binary;
use super::content::{self, FileId};

/// An inode that is held open.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) binary: Arc<Binary>,
    /// Keeps the inode from being used again, also where the executable's own file is another copy.
    pub(super) file: Option<File>,
    pub(super) id: FileId,
    pub(super) links: u64,
    /// See [`content::OpenedFile`].
    pub(super) is_sole: bool,
}

impl Held {
    /// Whether it may hold other bytes than when it was opened.
    pub(super) fn is_rewritten(&mut self) -> bool {
        let executable = self.binary.open_file();
        let own = executable.as_ref().map(|executable| &executable.file);
        let file = self.file.as_ref().or(own);
        file.is_some_and(|file| content::is_rewritten(file, &mut self.id, &mut self.links))
    }
}
