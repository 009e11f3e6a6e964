//! For tests: maps, files and a clock without a kernel.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use abi::{CHUNK_PAGES, EXECUTABLE_READY, Executable, Image, PAGE_WORDS, Page, Rule};

use super::builders::Limits;
use super::kernel::{Chunk, Kernel};
use super::table::{Failure, Table};
use super::{Tables, table};
use crate::Error;
use crate::pages::CHUNK_BYTES;

/// What a file says its tables are; the first word of it is one of these.
pub(super) const PAGES: &str = "pages";
pub(super) const ROWS: &str = "rows";
pub(super) const LARGE: &str = "large";

/// The maps, as the programs would see them.
#[derive(Default)]
pub(super) struct Maps {
    chunks: Vec<Chunk>,
    pub(super) executables: HashMap<u32, Executable>,
    pub(super) images: HashMap<u64, Image>,
    /// Each entry written, with the first word of its root page at that time.
    pub(super) entries: Vec<(u32, Executable, u32)>,
    /// What the kernel refuses.
    pub(super) refuses_chunks: bool,
    pub(super) refuses_images: bool,
}

impl unwind::Pages for Maps {
    fn page(&self, number: u32) -> Option<&Page> {
        self.chunks.get((number / CHUNK_PAGES) as usize)?.page(number % CHUNK_PAGES)
    }
}

#[derive(Clone, Default)]
struct FakeKernel(Arc<Mutex<Maps>>);

impl Kernel for FakeKernel {
    fn add_chunk(&mut self, number: u32) -> Result<Chunk, Error> {
        let mut maps = self.0.lock().unwrap();
        if maps.refuses_chunks {
            return Err(Error::Kernel("no memory".into()));
        }
        assert_eq!(number as usize, maps.chunks.len());
        // SAFETY: a NUL-terminated name.
        let fd = unsafe { libc::memfd_create(c"chunk".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(fd >= 0);
        // SAFETY: a descriptor just returned.
        let array = unsafe { File::from_raw_fd(fd) };
        array.set_len(CHUNK_BYTES as u64).unwrap();
        maps.chunks.push(Chunk::map(array.as_fd()).unwrap());
        Ok(Chunk::map(array.as_fd()).unwrap())
    }

    fn set_executable(&mut self, slot: u32, executable: &Executable) -> Result<(), Error> {
        let mut maps = self.0.lock().unwrap();
        let first = unwind::Pages::page(&*maps, executable.root).map_or(0, |page| page[0]);
        maps.entries.push((slot, *executable, first));
        maps.executables.insert(slot, *executable);
        Ok(())
    }

    fn set_image(&mut self, key: u64, image: &Image) -> Result<(), Error> {
        let mut maps = self.0.lock().unwrap();
        if maps.refuses_images {
            return Err(Error::Kernel("no".into()));
        }
        maps.images.insert(key, *image);
        Ok(())
    }

    fn remove_image(&mut self, key: u64) {
        self.0.lock().unwrap().images.remove(&key);
    }
}

/// Holds up builds of files that say `gate` until it is opened.
#[derive(Default)]
pub(super) struct Gate {
    open: Mutex<bool>,
    wake: Condvar,
}

impl Gate {
    pub(super) fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.wake.notify_all();
    }

    fn pass(&self) {
        let mut open = self.open.lock().unwrap();
        while !*open {
            open = self.wake.wait(open).unwrap();
        }
    }
}

/// Tables over fake maps.
pub(super) struct Bench {
    pub(super) tables: Tables,
    kernel: FakeKernel,
    now: Arc<Mutex<Instant>>,
    pub(super) gate: Arc<Gate>,
}

impl Bench {
    pub(super) fn new(budget_bytes: u64) -> Self {
        Self::with_limits(budget_bytes, super::LIMITS)
    }

    pub(super) fn with_limits(budget_bytes: u64, limits: Limits) -> Self {
        let kernel = FakeKernel::default();
        let now = Arc::new(Mutex::new(Instant::now()));
        let gate = Arc::new(Gate::default());
        let clock = Arc::clone(&now);
        let passed = Arc::clone(&gate);
        let tables = Tables::with(
            Box::new(kernel.clone()),
            budget_bytes,
            Box::new(move |file| read(file, &passed)),
            Box::new(|file| if text(file).starts_with(LARGE) { u64::MAX } else { 0 }),
            limits,
            Box::new(move || *clock.lock().unwrap()),
        );
        Self { tables: tables.unwrap(), kernel, now, gate }
    }

    pub(super) fn maps(&self) -> MutexGuard<'_, Maps> {
        self.kernel.0.lock().unwrap()
    }

    pub(super) fn advance(&self, by: Duration) {
        *self.now.lock().unwrap() += by;
    }

    /// The executable in a slot was sampled; its file says `content`.
    pub(super) fn want(&mut self, slot: u32, content: &str) {
        let file = file(content);
        self.tables.want_file(slot, u64::from(slot), || Some(file));
    }

    /// Waits until so many files in all were read; whether a poll said that something changed.
    pub(super) fn until_built(&mut self, builds: u64) -> bool {
        let mut changed = self.tables.poll();
        while self.tables.metrics().builds < builds {
            self.wait();
            changed |= self.tables.poll();
        }
        changed
    }

    /// Waits until a builder says that there is something.
    pub(super) fn wait(&self) {
        self.wait_for(&self.tables);
    }

    /// Tables that read real files, over maps of the same kernel.
    pub(super) fn real(&self, budget_bytes: u64) -> Tables {
        Tables::new(Box::new(self.kernel.clone()), budget_bytes).unwrap()
    }

    pub(super) fn wait_for(&self, tables: &Tables) {
        let mut fds = [libc::pollfd { fd: tables.ready_fd(), events: libc::POLLIN, revents: 0 }];
        // SAFETY: one pollfd.
        assert_eq!(unsafe { libc::poll(fds.as_mut_ptr(), 1, 60_000) }, 1, "no build ended within a minute");
    }

    /// Builds a table of so many pages in a slot, which finds room at once.
    pub(super) fn ready(&mut self, slot: u32, pages: usize) {
        let builds = self.tables.metrics().builds;
        self.want(slot, &format!("{PAGES} {pages}"));
        self.until_built(builds + 1);
        assert_eq!(self.tables.state(slot), EXECUTABLE_READY);
    }

    /// Everything is idle from now on, until it is used again.
    pub(super) fn idle(&mut self) {
        self.tables.end_interval();
        self.advance(super::executables::USED_LATELY);
        self.tables.poll();
    }
}

pub(super) fn file(content: &str) -> Arc<symbolizer::Executable> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    Arc::new(symbolizer::Executable {
        id: 1,
        file,
        path: "/x".into(),
        build_id: Vec::new(),
        symbol_bytes: 0,
        debug_bytes: 0,
    })
}

/// The row of a file offset in a table of `rows N`.
pub(super) fn rule_at(offset: u32) -> Rule {
    Rule::of(abi::CFA_REGISTER, 7, abi::FP_SAME, abi::RA_BELOW_CFA, 0, 8 * (offset / 4 % 1000) as i32)
}

fn text(file: &File) -> String {
    let mut bytes = [0; 32];
    let got = file.read_at(&mut bytes, 0).unwrap();
    String::from_utf8_lossy(&bytes[..got]).into_owned()
}

fn read(file: &File, gate: &Gate) -> Result<Box<dyn Table>, Failure> {
    let text = text(file);
    let mut words = text.split(' ');
    let kind = words.next().unwrap();
    let count = words.next().and_then(|count| count.parse().ok()).unwrap_or(1);
    match kind {
        PAGES => Ok(Box::new(Blank { pages: count })),
        ROWS => table::packed(rows(count)),
        LARGE | "gate" => {
            gate.pass();
            Ok(Box::new(Blank { pages: count }))
        }
        "panic" => panic!("as asked"),
        _ => Err(Failure::NoRows),
    }
}

fn rows(count: usize) -> tables::Rows {
    let mut rows: Vec<(u32, u16)> = (0..count as u32).map(|row| (4 * row, (row % 1000) as u16)).collect();
    rows.push((4 * count as u32, abi::RULE_NONE as u16));
    tables::Rows { rows, rules: (0..1000).map(|rule| rule_at(4 * rule)).collect(), ..Default::default() }
}

/// A table of so many pages, the first words of which are 7.
struct Blank {
    pages: usize,
}

impl Table for Blank {
    fn pages(&self) -> usize {
        self.pages
    }

    fn fill(&self, numbers: &[u32], write: &mut dyn FnMut(u32, &Page)) -> Option<Executable> {
        assert_eq!(numbers.len(), self.pages);
        for number in numbers {
            let mut page = [0; PAGE_WORDS];
            page[0] = 7;
            write(*number, &page);
        }
        Some(Executable { state: EXECUTABLE_READY, root: numbers[0], ..Executable::default() })
    }

    fn is_incomplete(&self) -> bool {
        false
    }
}
