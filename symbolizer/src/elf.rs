//! Names of native code: symbols, debug information and inlined calls of a held-open ELF file.
//!
//! blazesym maps the file and keeps what it parsed, so one of its symbolizers serves a burst of work and is then
//! dropped. Files that a debug link names are never opened: the name comes from inside an untrusted file, would
//! be looked up among the host's files, and could be a fifo. `.dwo` files are not opened by blazesym, and a
//! `.dwp` is looked for beside `/proc/self/fd/N`, where none can be.

use std::collections::{HashMap, HashSet};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blazesym::symbolize::source::{Elf as ElfSource, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};

use crate::config::Config;
use crate::demangle::demangle;
use crate::layout::{self, Layout};
use crate::query::{Executable, Frame, Reason, Resolved};
use crate::sigbus;
use crate::stats::Stats;

/// What a stub that jumps to another file's function is called, whichever it is.
const STUB_NAME: &str = "[plt]";
/// Memory of closed files that is given back to the system.
const RETURNED_BYTES_MIN: u64 = 4 << 20;
/// Names of functions and files shared between frames.
const TEXTS_MAX: usize = 16_384;
/// Executables remembered as having debug information that cannot be read.
const BROKEN_DEBUG_MAX: usize = 1024;
/// An index of 8 bytes for each entry of 24 bytes of the symbol tables, and nothing for their strings.
const SYMBOL_BYTES_PER_MEMORY_BYTE: u64 = 3;
/// Every part of a program that is asked about leaves its lines and functions in memory: after as many answers
/// from debug information all is let go, which costs 60 ms for 30 MB of it.
const DEBUG_ANSWERS_MAX: u64 = 2000;
/// Nested inlined calls in one answer; compilers stop long before.
const FRAMES_MAX: usize = 128;

/// What was decided about an executable when it was opened.
struct Opened {
    layout: Layout,
    debug: bool,
    /// Memory that reading it may take; counts towards [`Config::open_bytes_max`].
    bytes: u64,
}

/// Looks up file offsets in executables.
pub(crate) struct Elf {
    config: Config,
    symbolizer: Option<Symbolizer>,
    opened: HashMap<u64, Opened>,
    broken_debug: HashSet<u64>,
    /// Since the last release.
    debug_answers: u64,
    texts: Texts,
}

impl Elf {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            config: config.clone(),
            symbolizer: None,
            opened: HashMap::new(),
            broken_debug: HashSet::new(),
            debug_answers: 0,
            texts: Texts::default(),
        }
    }

    /// Answers in the order of `file_offsets`, all of one executable.
    pub(crate) fn resolve(
        &mut self,
        executable: &Executable,
        file_offsets: &[u64],
        stats: &mut Stats,
    ) -> Vec<Resolved> {
        if let Err(reason) = self.open(executable, stats) {
            return file_offsets.iter().map(|_| Err(reason)).collect();
        }
        let path = PathBuf::from(format!("/proc/self/fd/{}", executable.file.as_raw_fd()));
        file_offsets.iter().map(|&offset| self.resolve_one(executable, &path, offset, stats)).collect()
    }

    /// Lets go of all files and of everything read from them.
    pub(crate) fn release(&mut self, stats: &mut Stats) {
        if self.symbolizer.take().is_some() {
            stats.elf_released += 1;
            let bytes: u64 = self.opened.values().map(|opened| opened.bytes).sum();
            self.opened.clear();
            self.debug_answers = 0;
            self.texts = Texts::default();
            // What little files took is soon used for other things, and memory that is given back must be cleared first.
            if bytes >= RETURNED_BYTES_MIN {
                return_freed_memory();
            }
        }
    }

    fn open(&mut self, executable: &Executable, stats: &mut Stats) -> Result<(), Reason> {
        if self.opened.contains_key(&executable.id) {
            return Ok(());
        }
        let metadata = executable.file.metadata().map_err(|_unreadable| Reason::Unreadable)?;
        if !metadata.is_file() {
            return Err(Reason::NotElf);
        }
        let layout = layout::parse(&executable.file)?;
        if !layout.has_names() {
            return Err(Reason::NoSymbol);
        }
        if layout.symbol_bytes.max(executable.symbol_bytes) > self.config.symbol_bytes_max {
            return Err(Reason::TooLarge);
        }
        let unpacked_bytes =
            layout.symbol_bytes_unpacked(&executable.file, self.config.minidebug_bytes_max)?;
        let debug = self.debug_usable(executable, &layout, stats);
        let debug_bytes = if debug { layout.debug_bytes } else { 0 };
        let bytes = layout.symbol_bytes / SYMBOL_BYTES_PER_MEMORY_BYTE + unpacked_bytes + debug_bytes;
        let open_bytes: u64 = self.opened.values().map(|opened| opened.bytes).sum();
        let full = self.opened.len() >= self.config.open_executables_max
            || open_bytes.saturating_add(bytes) > self.config.open_bytes_max;
        if full && !self.opened.is_empty() {
            self.release(stats);
        }
        stats.elf_opened += 1;
        self.opened.insert(executable.id, Opened { layout, debug, bytes });
        Ok(())
    }

    fn debug_usable(&self, executable: &Executable, layout: &Layout, stats: &mut Stats) -> bool {
        if layout.debug_bytes == 0 || self.broken_debug.contains(&executable.id) {
            return false;
        }
        let usable = layout.debug_readable()
            && layout.debug_bytes.max(executable.debug_bytes) <= self.config.debug_bytes_max
            && layout.inflated_bytes <= self.config.inflated_bytes_max
            && layout.inflated_as_claimed(&executable.file);
        stats.debug_info_skipped += u64::from(!usable);
        usable
    }

    fn resolve_one(
        &mut self,
        executable: &Executable,
        path: &Path,
        offset: u64,
        stats: &mut Stats,
    ) -> Resolved {
        if self.debug_answers >= DEBUG_ANSWERS_MAX {
            self.release(stats);
        }
        // Done before, unless all was let go since.
        self.open(executable, stats)?;
        let opened = self.opened.get(&executable.id).ok_or(Reason::Unreadable)?;
        if opened.layout.is_stub(offset) {
            return Ok(Arc::from([Frame::named(STUB_NAME)]));
        }
        let address = opened.layout.virtual_address(offset).ok_or(Reason::NoSymbol)?;
        if opened.debug {
            self.debug_answers += 1;
            match self.symbolize(path, address, true, stats) {
                // Unreadable debug information must not cost the symbols.
                Err(Reason::Unreadable | Reason::Panicked) => self.give_up_debug(executable, stats),
                // A function without a name there may have one in the symbol table.
                Err(Reason::NoSymbol) => {}
                answer => return answer,
            }
        }
        self.symbolize(path, address, false, stats)
    }

    fn give_up_debug(&mut self, executable: &Executable, stats: &mut Stats) {
        stats.debug_info_broken += 1;
        tracing::debug!(path = executable.path, "debug information is unreadable");
        if self.broken_debug.len() >= BROKEN_DEBUG_MAX {
            self.broken_debug.clear();
        }
        self.broken_debug.insert(executable.id);
        if let Some(opened) = self.opened.get_mut(&executable.id) {
            opened.debug = false;
        }
    }

    fn symbolize(&mut self, path: &Path, address: u64, debug: bool, stats: &mut Stats) -> Resolved {
        let faults = sigbus::survived_here();
        let symbolizer = self.symbolizer.get_or_insert_with(new_symbolizer);
        let texts = &mut self.texts;
        // What a panic may leave half done is dropped below.
        let answer = catch_unwind(AssertUnwindSafe(|| {
            let symbol = find(symbolizer, path, address, debug)?;
            // Debug information may hold bare names only (line tables, C++ functions of one file); the symbol
            // table then says which of its many `drop` or `read` this is.
            let full = match debug && !is_mangled(&symbol.name) {
                true => find(symbolizer, path, address, false).ok().filter(|full| is_mangled(&full.name)),
                false => None,
            };
            Ok(frames(&symbol, full.as_ref().map_or(&symbol.name, |full| &full.name), texts, stats))
        }))
        .unwrap_or(Err(Reason::Panicked));
        if sigbus::survived_here() != faults {
            // The file was truncated under the reader, which saw zeros in place of what it held.
            self.release(stats);
            return Err(Reason::Unreadable);
        }
        if answer == Err(Reason::Panicked) {
            self.release(stats);
        }
        answer
    }
}

/// A symbol with a name.
fn find<'a>(symbolizer: &'a Symbolizer, path: &Path, address: u64, debug: bool) -> Result<Sym<'a>, Reason> {
    let mut source = ElfSource::new(path);
    source.debug_syms = debug;
    match symbolizer.symbolize_single(&Source::Elf(source), Input::VirtOffset(address)) {
        Ok(Symbolized::Sym(symbol)) if !symbol.name.is_empty() => Ok(symbol),
        Ok(_) => Err(Reason::NoSymbol),
        Err(error) => {
            tracing::debug!(path = %path.display(), %error, "cannot read the file");
            Err(Reason::Unreadable)
        }
    }
}

fn is_mangled(name: &str) -> bool {
    name.starts_with("_Z") || name.starts_with("_R")
}

fn new_symbolizer() -> Symbolizer {
    Symbolizer::builder()
        .enable_auto_reload(true)
        .enable_code_info(true)
        .enable_inlined_fns(true)
        .enable_demangling(false)
        .set_debug_dirs(Some([] as [&Path; 0]))
        .build()
}

fn frames(symbol: &Sym<'_>, outer_name: &str, texts: &mut Texts, stats: &mut Stats) -> Arc<[Frame]> {
    let inlined = symbol.inlined.iter().rev().filter(|function| !function.name.is_empty());
    let functions = inlined.map(|function| (&*function.name, function.code_info.as_ref()));
    let outer = (outer_name, symbol.code_info.as_deref());
    let frame = |(name, place): (&str, Option<&CodeInfo<'_>>)| {
        let (name, cut) = demangle(name);
        stats.names_cut += u64::from(cut);
        let file = place.map(|place| texts.share(&place.to_path().to_string_lossy()));
        let line = place.and_then(|place| place.line).unwrap_or(0);
        Frame { name: texts.share(&name), file, line, start_line: 0 }
    };
    functions.take(FRAMES_MAX - 1).chain([outer]).map(frame).collect()
}

/// Texts that many frames have in common.
#[derive(Default)]
struct Texts(HashSet<Arc<str>>);

impl Texts {
    fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        if self.0.len() >= TEXTS_MAX {
            self.0.clear();
        }
        let text: Arc<str> = text.into();
        self.0.insert(Arc::clone(&text));
        text
    }
}

/// glibc keeps freed memory for later; what a large file took would count as ours until then.
fn return_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
