//! Executable files: opened once while a process still maps them, held, shared by all their processes.

use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use foldhash::{HashMap, HashSet};
use symbolizer::Executable;

use crate::host::file_limit;
use crate::mapping::FileKey;
use content::{FileId, same_content};
use slots::Slots;

mod content;
mod facts;
mod open;
mod slots;

pub use facts::{Facts, read_facts};
pub(crate) use open::{RELATIVES_MAX, Source};

/// Files held open, as many as there are slots: only those that no process maps are closed for another.
const FILES_MAX: usize = abi::EXECUTABLES_MAX as usize;
/// The part of the process's limit of open files that they may take.
const FILE_LIMIT_PART: usize = 2;
/// How long a file that no process maps is kept: its file system may want to be let go.
const UNUSED_KEPT: Duration = Duration::from_secs(30);

/// A file with what its headers say.
#[derive(Debug)]
pub(crate) struct Binary {
    /// Unique among the executables of this process's life.
    pub(crate) id: u64,
    /// In the kernel's table of executables; given to another file only after this one was let go.
    pub(crate) slot: u32,
    /// As its process sees it.
    pub(crate) path: String,
    pub(crate) build_id: Vec<u8>,
    /// For the symbolizer and the unwind tables; `None` once no process maps it, so that its file system can
    /// be let go.
    executable: Mutex<Option<Arc<Executable>>>,
    /// The last component of the path.
    pub(crate) name: String,
    /// Executable segments: (file offset, bytes in the file, address at link time).
    segments: Vec<(u64, u64, u64)>,
}

/// All files held.
#[derive(Debug)]
pub(crate) struct Binaries {
    /// Files held open at most.
    files_max: usize,
    by_key: HashMap<(FileKey, String), Held>,
    by_file: HashMap<FileId, Arc<Binary>>,
    by_build_id: HashMap<Vec<u8>, Arc<Binary>>,
    slots: Slots,
    /// Those that have a slot, and since when no process maps them; none do that were asked for since the last look.
    unused_since: HashMap<u64, (Arc<Binary>, Option<Instant>)>,
    vdso: Option<Arc<Binary>>,
    next_id: u64,
    /// Files that no process maps, closed at the limit.
    pub(crate) evicted: u64,
    /// Times a file was not opened because processes map all that are held.
    pub(crate) refused: u64,
    /// Files that could not be opened or are none.
    pub(crate) unreadable: u64,
    /// Files that were opened through a process of the same cgroup.
    pub(crate) found_through_mates: u64,
    /// Files that got no slot because all were taken.
    pub(crate) without_slot: u64,
}

/// What a device, inode and path stand for.
#[derive(Debug)]
struct Held {
    binary: Arc<Binary>,
    /// Keeps the inode from being used again, also where the executable's own file is another copy.
    _file: Option<File>,
}

impl Binary {
    /// The open file, while some process maps it.
    pub(crate) fn open_file(&self) -> Option<Arc<Executable>> {
        self.executable.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn close(&self) {
        *self.executable.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether it is an ELF file with code.
    pub(crate) fn has_code(&self) -> bool {
        !self.segments.is_empty()
    }

    /// Where in the file the segment ends that begins, by whole pages, at this offset.
    pub(crate) fn segment_end(&self, file_offset: u64, page_bytes: u64) -> Option<u64> {
        let begins = |start: u64| start - start % page_bytes == file_offset;
        let (start, bytes, _) = self.segments.iter().find(|(start, _, _)| begins(*start))?;
        start.checked_add(*bytes)?.checked_next_multiple_of(page_bytes)
    }

    /// The address that a file offset has at link time, which a backend needs to symbolize later.
    pub(crate) fn link_address(&self, file_offset: u64) -> u64 {
        let segment = self
            .segments
            .iter()
            .find(|(start, bytes, _)| file_offset >= *start && file_offset - start < *bytes);
        segment.map_or(file_offset, |(start, _, address)| address.wrapping_add(file_offset - start))
    }

    /// Start, end and file offset of the first executable segment, at link time.
    pub(crate) fn extent(&self) -> (u64, u64, u64) {
        let Some((offset, _, start)) = self.segments.first() else {
            return (0, u64::MAX, 0);
        };
        let end = self.segments.iter().map(|(_, bytes, address)| address.saturating_add(*bytes)).max();
        (*start, end.unwrap_or(u64::MAX), *offset)
    }

    /// A file of which nothing is known.
    #[cfg(test)]
    pub(crate) fn for_test(id: u64, slot: u32) -> Self {
        Self {
            id,
            slot,
            path: format!("/{id}"),
            build_id: Vec::new(),
            executable: Mutex::new(None),
            name: id.to_string(),
            segments: Vec::new(),
        }
    }
}

impl Default for Binaries {
    fn default() -> Self {
        Self::new(FILES_MAX.min(file_limit() / FILE_LIMIT_PART))
    }
}

impl Binaries {
    fn new(files_max: usize) -> Self {
        Self {
            files_max,
            by_key: HashMap::default(),
            by_file: HashMap::default(),
            by_build_id: HashMap::default(),
            slots: Slots::default(),
            unused_since: HashMap::default(),
            vdso: None,
            next_id: 0,
            evicted: 0,
            refused: 0,
            unreadable: 0,
            found_through_mates: 0,
            without_slot: 0,
        }
    }

    /// The executable that a held inode is: the kernel's word for it is enough, nothing is opened.
    pub(crate) fn held(&mut self, inode: FileKey, path: &str) -> Option<Arc<Binary>> {
        let binary = Arc::clone(&self.by_key.get(&(inode, path.to_owned()))?.binary);
        self.use_again(&binary);
        Some(binary)
    }

    /// The file behind a mapping; `None` when it cannot be had. Opened only when no such inode is held.
    pub(crate) fn open(&mut self, source: &Source<'_>) -> Option<Arc<Binary>> {
        if let Some(binary) = self.held(source.inode, source.path) {
            return Some(binary);
        }
        if !self.make_room() {
            return None;
        }
        let Ok(file) = open::open_mapped(source) else {
            self.unreadable += 1;
            return None;
        };
        self.hold(file, source.inode, source.path)
    }

    /// A file that could not be opened through its process, through others of its cgroup.
    pub(crate) fn open_through_mates(
        &mut self,
        inode: FileKey,
        path: &str,
        mates: &[u32],
    ) -> Option<Arc<Binary>> {
        if !self.make_room() {
            return None;
        }
        let file = open::open_in_roots(mates, path, inode)?.ok()?;
        let binary = self.hold(file, inode, path)?;
        self.found_through_mates += 1;
        Some(binary)
    }

    fn hold(&mut self, file: File, inode: FileKey, path: &str) -> Option<Arc<Binary>> {
        let Ok(file_id) = FileId::of(&file) else {
            self.unreadable += 1;
            return None;
        };
        let (binary, file) = match self.by_file.get(&file_id) {
            Some(known) if known.open_file().is_some() => (Arc::clone(known), Some(file)),
            _ => self.add(file, path)?,
        };
        self.use_again(&binary);
        self.by_file.insert(file_id, Arc::clone(&binary));
        let held = Held { binary: Arc::clone(&binary), _file: file };
        self.by_key.insert((inode, path.to_owned()), held);
        Some(binary)
    }

    /// The kernel's own library, the same in every 64-bit process.
    pub(crate) fn vdso(&mut self) -> Option<Arc<Binary>> {
        if self.vdso.is_none() {
            let file = symbolizer::vdso().ok()?;
            self.vdso = Some(self.add(file, "[vdso]")?.0);
        }
        self.vdso.clone()
    }

    /// The executable in a slot, also a short time after it was let go.
    pub(crate) fn by_slot(&self, slot: u32) -> Option<&Arc<Binary>> {
        self.slots.get(slot)
    }

    /// Files held now.
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Lets go of files that no image has mapped for some time; frames that were named keep their names.
    /// Gives their slots.
    pub(crate) fn retain(&mut self, now: Instant, in_use: &HashSet<u64>) -> Vec<u32> {
        let vdso = self.vdso.as_ref().map(|binary| binary.id);
        let mut gone = Vec::new();
        self.unused_since.retain(|id, (binary, unused_since)| {
            if in_use.contains(id) || Some(*id) == vdso {
                *unused_since = None;
                return true;
            }
            let keep = now.duration_since(*unused_since.get_or_insert(now)) < UNUSED_KEPT;
            if !keep {
                gone.push(Arc::clone(binary));
            }
            keep
        });
        for binary in &gone {
            self.slots.free_later(now, binary.slot);
        }
        self.close(&gone);
        gone.iter().map(|binary| binary.slot).collect()
    }

    /// The executable that a file is, and the file where it is but a copy. A build id alone proves nothing, a
    /// container writes its own: two files are one only when every byte is. `None` when there is no slot left.
    fn add(&mut self, file: File, path: &str) -> Option<(Arc<Binary>, Option<File>)> {
        let facts = read_facts(&file);
        if let Some(known) = self.by_build_id.get(&facts.build_id)
            && known.open_file().is_some_and(|executable| same_content(&executable.file, &file))
        {
            return Some((Arc::clone(known), Some(file)));
        }
        let id = self.next_id + 1;
        let build_id = facts.build_id.clone();
        let binary = self.slots.insert(Instant::now(), |slot| Binary {
            id,
            slot,
            path: path.to_owned(),
            build_id: facts.build_id.clone(),
            executable: Mutex::new(Some(Arc::new(Executable {
                id,
                file,
                path: path.to_owned(),
                build_id: facts.build_id,
                symbol_bytes: facts.symbol_bytes,
                debug_bytes: facts.debug_bytes,
            }))),
            name: path.rsplit('/').next().unwrap_or(path).to_owned(),
            segments: facts.segments,
        });
        let Some(binary) = binary else {
            self.without_slot += 1;
            return None;
        };
        self.next_id = id;
        self.unused_since.insert(id, (Arc::clone(&binary), None));
        if !build_id.is_empty() {
            self.by_build_id.insert(build_id, Arc::clone(&binary));
        }
        Some((binary, None))
    }

    /// A mapping is about to show it: it is not closed for another before the next look at what is mapped.
    fn use_again(&mut self, binary: &Binary) {
        if let Some((_, unused_since)) = self.unused_since.get_mut(&binary.id) {
            *unused_since = None;
        }
    }

    /// At the limit, closes the file that no process maps for the longest time; its slot goes when it would have
    /// gone anyway. False when processes map all: a file closed under them could never be read again.
    fn make_room(&mut self) -> bool {
        if self.by_key.len() < self.files_max {
            return true;
        }
        let unused = self.unused_since.values().filter_map(|(binary, since)| Some((binary, (*since)?)));
        let closable = unused.filter(|(binary, _)| binary.open_file().is_some());
        let Some(oldest) = closable.min_by_key(|(_, since)| *since).map(|(binary, _)| Arc::clone(binary))
        else {
            self.refused += 1;
            return false;
        };
        let held = self.by_key.len();
        self.close(&[oldest]);
        self.evicted += (held - self.by_key.len()) as u64;
        true
    }

    /// Closes executables and all that stands for them, so that they are opened anew when they are mapped again.
    fn close(&mut self, gone: &[Arc<Binary>]) {
        if gone.is_empty() {
            return;
        }
        let ids: HashSet<u64> = gone.iter().map(|binary| binary.id).collect();
        self.by_key.retain(|_, held| !ids.contains(&held.binary.id));
        self.by_file.retain(|_, binary| !ids.contains(&binary.id));
        self.by_build_id.retain(|_, binary| !ids.contains(&binary.id));
        gone.iter().for_each(|binary| binary.close());
    }
}

#[cfg(test)]
mod tests;
