//! Executable mappings of a process, and the files behind them.

use std::fs;

use anyhow::{Context, Result, bail};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{LittleEndian, elf};

use crate::tracee::Tracee;

const PAGE_BYTES: u64 = 4096;

#[derive(Debug, Clone)]
pub(crate) struct Mapped {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) file_offset: u64,
    /// A file, or a name in brackets; `None` for memory without a file.
    pub(crate) path: Option<String>,
}

/// All mappings of a process, executable or not, and whether they are.
fn lines(process: u32) -> Result<Vec<(Mapped, bool)>> {
    let text = fs::read_to_string(format!("/proc/{process}/maps"))?;
    text.lines().map(|line| parse(line).with_context(|| format!("mapping {line:?}"))).collect()
}

fn parse(line: &str) -> Option<(Mapped, bool)> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let executable = words.next()?.contains('x');
    let offset = words.next()?;
    let path = words.nth(2).filter(|path| path.starts_with('/') || *path == "[vdso]").map(str::to_owned);
    let hex = |text| u64::from_str_radix(text, 16).ok();
    Some((Mapped { start: hex(start)?, end: hex(end)?, file_offset: hex(offset)?, path }, executable))
}

/// The executable mappings.
pub(crate) fn executable(process: u32) -> Result<Vec<Mapped>> {
    Ok(lines(process)?
        .into_iter()
        .filter(|(_, is_executable)| *is_executable)
        .map(|(mapped, _)| mapped)
        .collect())
}

/// The executable segments of the files of a machine that is emulated, by where each file's first page lies:
/// the emulator maps none of them executable.
pub(crate) fn emulated(process: u32, machine: u16) -> Result<Vec<Mapped>> {
    let mut found = Vec::new();
    for (first, _) in lines(process)? {
        let Some(path) = first.path.as_deref().filter(|path| path.starts_with('/') && first.file_offset == 0)
        else {
            continue;
        };
        let Ok(content) = fs::read(path) else { continue };
        let Ok(header) = elf::FileHeader64::<LittleEndian>::parse(&*content) else { continue };
        let endian = LittleEndian;
        if header.e_machine(endian) != machine {
            continue;
        }
        let loaded = |s: &&elf::ProgramHeader64<LittleEndian>| s.p_type(endian) == elf::PT_LOAD;
        let segments = header.program_headers(endian, &*content)?;
        let base = segments.iter().find(loaded).map_or(0, |s| s.p_vaddr(endian) & !(PAGE_BYTES - 1));
        for segment in segments.iter().filter(loaded).filter(|s| s.p_flags(endian) & elf::PF_X != 0) {
            let (address, bytes) = (segment.p_vaddr(endian), segment.p_filesz(endian));
            let start = first.start.wrapping_sub(base).wrapping_add(address) & !(PAGE_BYTES - 1);
            let end =
                first.start.wrapping_sub(base).wrapping_add(address + bytes).next_multiple_of(PAGE_BYTES);
            let file_offset = segment.p_offset(endian) & !(PAGE_BYTES - 1);
            if !found.iter().any(|known: &Mapped| known.start == start) {
                found.push(Mapped { start, end, file_offset, path: first.path.clone() });
            }
        }
    }
    found.sort_by_key(|mapped| mapped.start);
    Ok(found)
}

/// What is in a mapping's file.
pub(crate) fn content(mapping: &Mapped, path: &str, tracee: &mut dyn Tracee) -> Result<Vec<u8>> {
    if path.starts_with('/') {
        return fs::read(path).with_context(|| path.to_owned());
    }
    // The vdso is whole in memory.
    let mut content = vec![0; usize::try_from(mapping.end - mapping.start)?];
    if !tracee.read(mapping.start, &mut content) {
        bail!("cannot read {path}");
    }
    Ok(content)
}
