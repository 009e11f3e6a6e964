//! The kernel's text symbols, in a compact table of our own, kept fresh as modules and BPF programs come and go.
//!
//! Format of `/proc/kallsyms`: `ADDRESS TYPE NAME` and, for what is not the core image, a tab and `[MODULE]`;
//! core symbols stand first. Addresses read as zero without CAP_SYSLOG or with kernel.kptr_restrict=2.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::query::Reason;

/// Longer lines are left out; the kernel's own limit for a name is 512 bytes.
const LINE_BYTES_MAX: usize = 1024;
const SYMBOLS_MAX: usize = 1_000_000;
const NAMES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Modules have one symbol section each; u16 holds the rest.
const MODULES_MAX: usize = u16::MAX as usize;
/// Outside the core image the next symbol may be missing, so a distant one proves nothing.
const REACH_BYTES_MAX: u64 = 1024 * 1024;
/// An unknown address outside the core image asks for a new table, not more often than this.
const RELOAD_UNKNOWN_INTERVAL: Duration = Duration::from_secs(10);
/// A known one may belong to a program loaded since.
const RELOAD_KNOWN_INTERVAL: Duration = Duration::from_secs(60);
/// After kallsyms could not be read or showed no addresses.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

const READ_BUFFER_BYTES: usize = 64 * 1024;
/// Index of "no module".
const CORE: u16 = 0;

#[derive(Clone, Copy, Debug)]
struct Symbol {
    address: u64,
    name_start: u32,
    name_bytes: u16,
    module: u16,
}

/// The text symbols of one reading of kallsyms, sorted by address, one for an address.
#[derive(Debug, Default)]
pub struct Table {
    symbols: Box<[Symbol]>,
    names: Box<str>,
    /// `[name]`; the first is the core image's, empty.
    modules: Box<[Box<str>]>,
    /// `_stext` to `_etext`; empty when either is missing.
    core: Range<u64>,
    /// Lines too long, and symbols beyond a limit.
    skipped: u64,
}

impl Table {
    /// Name of the function that covers `address`: the nearest symbol at or below it.
    pub fn lookup(&self, address: u64) -> Option<Cow<'_, str>> {
        let after = self.symbols.partition_point(|symbol| symbol.address <= address);
        let symbol = self.symbols.get(after.checked_sub(1)?)?;
        let near = address - symbol.address <= REACH_BYTES_MAX;
        if symbol.name_bytes == 0 || !(near || self.core.contains(&address)) {
            return None;
        }
        let start = symbol.name_start as usize;
        let name = self.names.get(start..start + usize::from(symbol.name_bytes))?;
        let module = self.modules.get(usize::from(symbol.module)).map_or("", |module| &**module);
        Some(match module {
            "" => Cow::Borrowed(name),
            "[bpf]" => Cow::Owned(format!("{} {module}", bpf_program(name))),
            _ => Cow::Owned(format!("{name} {module}")),
        })
    }

    /// Whether `address` lies in the core image's text, which never changes while the kernel runs.
    pub fn core_contains(&self, address: u64) -> bool {
        self.core.contains(&address)
    }

    pub fn symbols(&self) -> usize {
        self.symbols.len()
    }

    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Bytes of memory that the table takes.
    pub fn bytes(&self) -> u64 {
        let modules: usize = self.modules.iter().map(|module| module.len() + size_of::<Box<str>>()).sum();
        (self.symbols.len() * size_of::<Symbol>() + self.names.len() + modules) as u64
    }
}

/// `bpf_prog_<16 hex digits of its tag>_<name>` without the tag; programs without a name keep theirs.
fn bpf_program(name: &str) -> &str {
    name.strip_prefix("bpf_prog_")
        .and_then(|rest| rest.split_once('_'))
        .filter(|(tag, program)| tag.bytes().all(|byte| byte.is_ascii_hexdigit()) && !program.is_empty())
        .map_or(name, |(_, program)| program)
}

/// Reads kallsyms. `Ok(Err(Reason::KallsymsHidden))` when every address is zero.
///
/// # Errors
/// What the reader says.
pub fn parse(reader: impl BufRead) -> io::Result<Result<Table, Reason>> {
    let mut draft = Draft::default();
    for_each_line(reader, |line| match line {
        Some(line) => draft.add(line),
        None => draft.skipped += 1,
    })?;
    Ok(draft.finish())
}

/// Calls back with every line, or with `None` for one longer than [`LINE_BYTES_MAX`].
fn for_each_line(mut reader: impl BufRead, mut line_read: impl FnMut(Option<&[u8]>)) -> io::Result<()> {
    let mut line = Vec::with_capacity(LINE_BYTES_MAX);
    let mut too_long = false;
    loop {
        let buffer = match reader.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if buffer.is_empty() {
            break;
        }
        let newline = buffer.iter().position(|&byte| byte == b'\n');
        let part = &buffer[..newline.unwrap_or(buffer.len())];
        too_long |= line.len() + part.len() > LINE_BYTES_MAX;
        if !too_long {
            line.extend_from_slice(part);
        }
        let taken = part.len() + usize::from(newline.is_some());
        if newline.is_some() {
            line_read((!too_long).then_some(&line));
            line.clear();
            too_long = false;
        }
        reader.consume(taken);
    }
    if too_long || !line.is_empty() {
        line_read((!too_long).then_some(&line));
    }
    Ok(())
}

/// A table while it is read.
#[derive(Default)]
struct Draft {
    /// With the preference among symbols of one address, lower is better.
    symbols: Vec<(Symbol, u8)>,
    names: String,
    modules: Vec<Box<str>>,
    module_index: HashMap<Box<str>, u16>,
    core: Range<u64>,
    text_seen: bool,
    skipped: u64,
}

impl Draft {
    fn add(&mut self, line: &[u8]) {
        let Ok(line) = std::str::from_utf8(line) else {
            self.skipped += 1;
            return;
        };
        let mut fields = line.split_ascii_whitespace();
        let (Some(address), Some(kind), Some(name)) = (fields.next(), fields.next(), fields.next()) else {
            return;
        };
        if !matches!(kind, "t" | "T" | "w" | "W") {
            return;
        }
        let Ok(address) = u64::from_str_radix(address, 16) else { return };
        self.text_seen = true;
        if address == 0 {
            return;
        }
        match name {
            "_stext" => return self.core.start = address,
            "_etext" => return self.core.end = address,
            _ => {}
        }
        // The linker script's own marks. No function begins at an end: what follows it has no name.
        if name.starts_with("__") && name.ends_with("_text_start") {
            return;
        }
        let (name, preference) = match name {
            _ if name.starts_with("__") && name.ends_with("_text_end") => ("", u8::MAX),
            _ => (name, preference(kind, name)),
        };
        // Padding before functions, CFI stubs and assembler marks: never the name of running code, and with
        // the first of them half of the table.
        if name.starts_with("__pfx_") || name.starts_with("__cfi_") || name.starts_with('$') {
            return;
        }
        let Some(module) = self.module(fields.next()) else {
            self.skipped += 1;
            return;
        };
        let (Ok(name_start), Ok(name_bytes)) = (u32::try_from(self.names.len()), u16::try_from(name.len()))
        else {
            self.skipped += 1;
            return;
        };
        if self.symbols.len() == SYMBOLS_MAX || self.names.len() + name.len() > NAMES_BYTES_MAX {
            self.skipped += 1;
            return;
        }
        self.names.push_str(name);
        self.symbols.push((Symbol { address, name_start, name_bytes, module }, preference));
    }

    fn module(&mut self, field: Option<&str>) -> Option<u16> {
        let Some(module) = field else { return Some(CORE) };
        if let Some(&index) = self.module_index.get(module) {
            return Some(index);
        }
        if self.modules.len() + 1 == MODULES_MAX {
            return None;
        }
        self.modules.push(module.into());
        let index = u16::try_from(self.modules.len()).ok()?;
        self.module_index.insert(module.into(), index);
        Some(index)
    }

    fn finish(mut self) -> Result<Table, Reason> {
        if self.symbols.is_empty() && self.text_seen {
            return Err(Reason::KallsymsHidden);
        }
        self.symbols.sort_by_key(|(symbol, preference)| (symbol.address, *preference));
        self.symbols.dedup_by_key(|(symbol, _)| symbol.address);
        // Names of the symbols left out go too.
        let mut names = String::with_capacity(self.names.len());
        let mut symbols = Vec::with_capacity(self.symbols.len());
        for (symbol, _) in &self.symbols {
            let start = symbol.name_start as usize;
            let Ok(name_start) = u32::try_from(names.len()) else { break };
            names.push_str(self.names.get(start..start + usize::from(symbol.name_bytes)).unwrap_or(""));
            symbols.push(Symbol { name_start, ..*symbol });
        }
        let mut modules = vec![Box::from("")];
        modules.append(&mut self.modules);
        Ok(Table {
            symbols: symbols.into_boxed_slice(),
            names: names.into_boxed_str(),
            modules: modules.into_boxed_slice(),
            core: self.core,
            skipped: self.skipped,
        })
    }
}

/// Among aliases a global name is better than a local one and a weak one the last choice; leading underscores
/// mark the internal alias.
fn preference(kind: &str, name: &str) -> u8 {
    let binding = match kind {
        "T" => 0,
        "t" => 1,
        _ => 2,
    };
    let underscores = name.bytes().take_while(|&byte| byte == b'_').count().min(9) as u8;
    binding * 10 + underscores
}

/// The current table of one file, loaded when first needed.
#[derive(Debug)]
pub(crate) struct Kallsyms {
    path: PathBuf,
    table: Result<Table, Reason>,
    loaded_at: Option<Instant>,
    pub(crate) loads: u64,
}

impl Kallsyms {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, table: Err(Reason::Unreadable), loaded_at: None, loads: 0 }
    }

    pub(crate) fn table(&self) -> Option<&Table> {
        self.table.as_ref().ok()
    }

    pub(crate) fn lookup(&mut self, address: u64, now: Instant) -> Result<Cow<'_, str>, Reason> {
        let age = self.loaded_at.map(|at| now.saturating_duration_since(at));
        let due = match (&self.table, age) {
            (_, None) => true,
            (Err(_), Some(age)) => age >= RETRY_INTERVAL,
            (Ok(table), Some(_)) if table.core_contains(address) => false,
            (Ok(_), Some(age)) if age >= RELOAD_KNOWN_INTERVAL => true,
            (Ok(table), Some(age)) => age >= RELOAD_UNKNOWN_INTERVAL && table.lookup(address).is_none(),
        };
        if due {
            self.load(now);
        }
        match &self.table {
            Ok(table) => table.lookup(address).ok_or(Reason::NoSymbol),
            Err(reason) => Err(*reason),
        }
    }

    fn load(&mut self, now: Instant) {
        self.loaded_at = Some(now);
        self.loads += 1;
        let read =
            File::open(&self.path).and_then(|file| parse(BufReader::with_capacity(READ_BUFFER_BYTES, file)));
        match read {
            Ok(Ok(table)) => {
                tracing::debug!(
                    symbols = table.symbols(),
                    bytes = table.bytes(),
                    "read the kernel's symbols"
                );
                self.table = Ok(table);
            }
            Ok(Err(reason)) => {
                tracing::warn!(path = %self.path.display(), %reason, "kernel functions have no names");
                self.table = Err(reason);
            }
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "kernel functions have no names");
                // An older table is better than none.
                if self.table.is_err() {
                    self.table = Err(Reason::Unreadable);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
