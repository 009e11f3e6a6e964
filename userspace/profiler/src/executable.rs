//! Executable files: opened once while a process still maps them, held, shared by all their processes.

use std::fs::File;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use foldhash::{HashMap, HashSet};
use symbolizer::Executable;

use crate::host::file_limit;
use crate::mapping::FileKey;
use closer::Closer;
use content::{Comparing, FileId, OpenedFile};
use held::Held;
use opener::Opener;
use slots::Slots;

mod binary;
mod closer;
mod content;
mod facts;
mod held;
mod open;
mod opener;
mod slots;

pub(crate) use binary::Binary;
pub use facts::{Facts, read_facts};
pub(crate) use open::{RELATIVES_MAX, Source};

/// Files held open, as many as there are slots: only those that no process maps are closed for another.
const FILES_MAX: usize = abi::EXECUTABLES_MAX as usize;
/// The part of the process's limit of open files that they may take.
const FILE_LIMIT_PART: usize = 2;
/// How long the draining thread waits for a file, each time it asks for something of it. Tests do not ask how fast a
/// loaded machine is.
const OPEN_WAIT: Duration = if cfg!(test) { Duration::from_secs(60) } else { Duration::from_millis(100) };
/// How long a file that no process maps is kept: its file system may want to be let go.
const UNUSED_KEPT: Duration = Duration::from_secs(30);

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
    opener: Opener,
    /// Where a slow file will come once it is open; no more than threads that may be stuck, and files tried again.
    late: HashMap<FileKey, Receiver<std::io::Result<OpenedFile>>>,
    closer: Closer,
    comparing: Comparing,
    /// Files that no process maps, closed at the limit.
    pub(crate) evicted: u64,
    /// Times a file was not opened because processes map all that are held.
    pub(crate) refused: u64,
    /// Files that could not be opened or are none.
    pub(crate) unreadable: u64,
    /// Files taken for different from others with their build ids because comparing them was too much.
    pub(crate) uncompared: u64,
    /// Files that were opened through a process of the same cgroup.
    pub(crate) found_through_mates: u64,
    /// Files that got no slot because all were taken.
    pub(crate) without_slot: u64,
}

/// What became of a file that was to be opened.
#[derive(Debug)]
pub(crate) enum Opened {
    File(Arc<Binary>),
    /// It did not answer in time, and may when it is asked again.
    Slow,
    /// It cannot be had.
    None,
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
            opener: Opener::new(OPEN_WAIT),
            late: HashMap::default(),
            closer: Closer::default(),
            comparing: Comparing::default(),
            evicted: 0,
            refused: 0,
            unreadable: 0,
            uncompared: 0,
            found_through_mates: 0,
            without_slot: 0,
        }
    }

    /// The executable that a held inode is, unless it was written to since: the kernel's word for the inode is enough,
    /// nothing is opened.
    pub(crate) fn held(&mut self, inode: FileKey, path: &str) -> Option<Arc<Binary>> {
        let key = (inode, path.to_owned());
        let held = self.by_key.get_mut(&key).filter(|held| held.is_sole)?;
        let binary = Arc::clone(&held.binary);
        let id = held.id;
        if held.is_rewritten() {
            if let Some(rewritten) = self.by_key.remove(&key).and_then(|held| held.file) {
                self.closer.close(vec![rewritten], Vec::new());
            }
            self.by_file.remove(&id);
            self.by_build_id.retain(|_, known| known.id != binary.id);
            return None;
        }
        self.use_again(&binary);
        Some(binary)
    }

    /// The file behind a mapping. Opened only when no such inode is held.
    pub(crate) fn open(&mut self, source: &Source<'_>) -> Opened {
        if let Some(binary) = self.held(source.inode, source.path) {
            return Opened::File(binary);
        }
        if self.opener.is_stuck_on(source.inode) {
            return Opened::Slow;
        }
        if !self.make_room() {
            return Opened::None;
        }
        self.opener.inode = Some(source.inode);
        let slow_before = self.opener.slow;
        let binary = self.open_now(source);
        self.opener.inode = None;
        match binary {
            Some(binary) => Opened::File(binary),
            None if self.opener.slow > slow_before => Opened::Slow,
            None => Opened::None,
        }
    }

    fn open_now(&mut self, source: &Source<'_>) -> Option<Arc<Binary>> {
        let Source { pid, start, end, inode, .. } = *source;
        let late = self.late.remove(&inode).and_then(|late| late.try_recv().ok());
        let opened = late.map_or_else(
            || {
                let (path, relatives) = (source.path.to_owned(), source.relatives.to_vec());
                self.opener.run_or_later(move || {
                    let source = Source { pid, start, end, path: &path, inode, relatives: &relatives };
                    open::open_mapped(&source).and_then(OpenedFile::new)
                })
            },
            Ok,
        );
        match opened {
            Ok(Ok(opened)) => self.hold(opened, inode, source.path),
            Ok(Err(_)) | Err(None) => {
                self.unreadable += 1;
                None
            }
            Err(Some(late)) => {
                self.late.insert(inode, late);
                None
            }
        }
    }

    /// Nobody asks again for a file that was slow.
    pub(crate) fn forget_slow(&mut self, inode: FileKey) {
        if let Some(Ok(Ok(opened))) = self.late.remove(&inode).map(|late| late.try_recv()) {
            self.closer.close(vec![opened.file], Vec::new());
        }
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
        let (owned_path, mates) = (path.to_owned(), mates.to_vec());
        let opened = self.opener.run(move || {
            let file = open::open_in_roots(&mates, &owned_path, inode)?.ok()?;
            OpenedFile::new(file).ok()
        });
        let binary = self.hold(opened.flatten()?, inode, path)?;
        self.found_through_mates += 1;
        Some(binary)
    }

    fn hold(&mut self, opened: OpenedFile, inode: FileKey, path: &str) -> Option<Arc<Binary>> {
        let OpenedFile { file, id, links, is_sole } = opened;
        let (binary, file) = match self.by_file.get(&id) {
            Some(known) if known.open_file().is_some() => (Arc::clone(known), Some(file)),
            _ => self.add(file, id, path)?,
        };
        self.use_again(&binary);
        self.by_file.insert(id, Arc::clone(&binary));
        let key = (inode, path.to_owned());
        if self.by_key.get(&key).is_some_and(|held| held.id == id) {
            // Its thread just answered.
            self.opener.run(move || drop(file));
            return Some(binary);
        }
        let held = Held { binary: Arc::clone(&binary), file, id, links, is_sole };
        if let Some(other) = self.by_key.insert(key, held).and_then(|held| held.file) {
            self.closer.close(vec![other], Vec::new());
        }
        Some(binary)
    }

    /// The kernel's own library, the same in every 64-bit process.
    pub(crate) fn vdso(&mut self) -> Option<Arc<Binary>> {
        if self.vdso.is_none() {
            let file = symbolizer::vdso().ok()?;
            // Memory of this process's own: nothing to wait for.
            let facts = read_facts(&file);
            self.vdso = Some(self.insert(file, facts, "[vdso]")?);
        }
        self.vdso.clone()
    }

    /// The executable in a slot, also a short time after it was let go.
    pub(crate) fn by_slot(&self, slot: u32) -> Option<&Arc<Binary>> {
        self.slots.get(slot)
    }

    /// Times a file did not answer in time, or was not asked because others do not.
    pub(crate) fn open_slow(&self) -> u64 {
        self.opener.slow
    }

    /// Files held now.
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Lets go of files that no image has mapped for some time; frames that were named keep their names.
    /// Gives their slots.
    pub(crate) fn retain(&mut self, now: Instant, in_use: &HashSet<u64>) -> Vec<u32> {
        let vdso = self.vdso.as_ref().map(|binary| binary.id);
        let can_close = self.closer.is_ready();
        let mut gone = Vec::new();
        self.unused_since.retain(|id, (binary, unused_since)| {
            if in_use.contains(id) || Some(*id) == vdso {
                *unused_since = None;
                return true;
            }
            let keep = now.duration_since(*unused_since.get_or_insert(now)) < UNUSED_KEPT || !can_close;
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
    /// container writes its own: two files are one only when every byte is. `None` when there is no slot left, or
    /// the file does not let itself be read in time.
    fn add(&mut self, file: File, file_id: FileId, path: &str) -> Option<(Arc<Binary>, Option<File>)> {
        let Some((facts, file)) = self.opener.run(move || (read_facts(&file), file)) else {
            self.unreadable += 1;
            return None;
        };
        let known = self.by_build_id.get(&facts.build_id).cloned();
        let Some((known, executable)) =
            known.and_then(|known| Some((Arc::clone(&known), known.open_file()?)))
        else {
            return Some((self.insert(file, facts, path)?, None));
        };
        let Some(compare) = self.comparing.begin(Instant::now(), file_id, OPEN_WAIT / 2) else {
            self.uncompared += 1;
            return Some((self.insert(file, facts, path)?, None));
        };
        let compared = self.opener.run(move || (compare.is_same(&executable.file, &file), file));
        let Some((is_same, file)) = compared else {
            self.unreadable += 1;
            return None;
        };
        self.uncompared += u64::from(is_same.is_none());
        if is_same == Some(true) {
            return Some((known, Some(file)));
        }
        Some((self.insert(file, facts, path)?, None))
    }

    fn insert(&mut self, file: File, facts: Facts, path: &str) -> Option<Arc<Binary>> {
        let id = self.next_id + 1;
        let build_id = facts.build_id.clone();
        let executable = Arc::new(Executable {
            id,
            file,
            path: path.to_owned(),
            build_id: facts.build_id.clone(),
            symbol_bytes: facts.symbol_bytes,
            debug_bytes: facts.debug_bytes,
        });
        let binary = self.slots.insert(Instant::now(), |slot| Binary {
            id,
            slot,
            path: path.to_owned(),
            build_id: facts.build_id,
            executable: Mutex::new(Some(Arc::clone(&executable))),
            name: path.rsplit('/').next().unwrap_or(path).to_owned(),
            segments: facts.segments,
        });
        let Some(binary) = binary else {
            self.without_slot += 1;
            // Its thread just answered.
            self.opener.run(move || drop(executable));
            return None;
        };
        self.next_id = id;
        self.unused_since.insert(id, (Arc::clone(&binary), None));
        if !build_id.is_empty() {
            self.by_build_id.insert(build_id, Arc::clone(&binary));
        }
        Some(binary)
    }

    /// A mapping is about to show it: it is not closed for another before the next look at what is mapped.
    fn use_again(&mut self, binary: &Binary) {
        if let Some((_, unused_since)) = self.unused_since.get_mut(&binary.id) {
            *unused_since = None;
        }
    }

    /// At the limit, closes the file that no process maps for the longest time; its slot goes when it would have
    /// gone anyway. False when there is none: a file closed under them could never be read again.
    fn make_room(&mut self) -> bool {
        if self.by_key.len() < self.files_max {
            return true;
        }
        let can_close = self.closer.is_ready();
        let unused = self.unused_since.values().filter_map(|(binary, since)| Some((binary, (*since)?)));
        let closable = unused.filter(|(binary, _)| can_close && binary.open_file().is_some());
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
        let entries = self.by_key.extract_if(|_, held| ids.contains(&held.binary.id));
        let files = entries.filter_map(|(_, held)| held.file).collect();
        self.by_file.retain(|_, binary| !ids.contains(&binary.id));
        self.by_build_id.retain(|_, binary| !ids.contains(&binary.id));
        let executables = gone.iter().filter_map(|binary| binary.take_file()).collect();
        self.closer.close(files, executables);
    }
}

impl Drop for Binaries {
    fn drop(&mut self) {
        let all: Vec<_> = self.unused_since.drain().map(|(_, (binary, _))| binary).collect();
        self.close(&all);
    }
}

#[cfg(test)]
mod tests;
