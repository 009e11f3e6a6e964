//! Executables reduced to what unwinding reads: of the same length, all else zeros, which compress to nothing.

use std::path::Path;

use anyhow::{Context, Result};
use flate2::Crc;
use object::elf::FileHeader64;
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{LittleEndian, Object, ObjectSection, ObjectSymbol, SymbolKind, elf};

use crate::{Executable, Function};

/// Sections whose content is kept.
const KEPT: [&str; 8] = [
    ".eh_frame",
    ".eh_frame_hdr",
    ".debug_frame",
    ".gopclntab",
    ".data.rel.ro.gopclntab",
    ".go.module",
    ".go.buildinfo",
    ".shstrtab",
];
const ELF_HEADER_BYTES: usize = size_of::<FileHeader64<LittleEndian>>();

/// The content reduced, and the functions that it has names for.
///
/// # Errors
/// It is no little-endian 64-bit ELF file.
pub fn reduce(content: &[u8]) -> Result<(Vec<u8>, Vec<Function>)> {
    let file = ElfFile64::<LittleEndian>::parse(content)?;
    let header = file.elf_header();
    let mut reduced = vec![0; content.len()];
    let mut keep = |start: u64, bytes: u64| -> Option<()> {
        let start = usize::try_from(start).ok()?;
        let end = start.checked_add(usize::try_from(bytes).ok()?)?.min(content.len());
        reduced.get_mut(start..end)?.copy_from_slice(content.get(start..end)?);
        Some(())
    };
    let headers = |start: u64, size: u16, count: u16| (start, u64::from(size) * u64::from(count));
    let endian = LittleEndian;
    let segments = headers(header.e_phoff(endian), header.e_phentsize(endian), header.e_phnum(endian));
    let sections = headers(header.e_shoff(endian), header.e_shentsize(endian), header.e_shnum(endian));
    let kept = file
        .sections()
        .filter(|section| section.name().is_ok_and(|name| KEPT.contains(&name)))
        .filter_map(|section| section.file_range());
    for (start, bytes) in [(0, ELF_HEADER_BYTES as u64), segments, sections].into_iter().chain(kept) {
        keep(start, bytes).context("a header or section lies outside of the file")?;
    }
    Ok((reduced, functions(&file)))
}

/// Stores the executable reduced, once for each content; the name that cases call it by.
///
/// # Errors
/// Those of [`reduce`], and of writing.
pub fn store_executable(dir: &Path, file_name: &str, content: &[u8]) -> Result<String> {
    let (reduced, functions) = reduce(content).with_context(|| file_name.to_owned())?;
    let mut crc = Crc::new();
    crc.update(&reduced);
    let name = format!("{file_name}-{:08x}", crc.sum());
    std::fs::create_dir_all(dir)?;
    Executable::write_content(dir, &name, &reduced)?;
    Executable::write_functions(dir, &name, &functions)?;
    Ok(name)
}

/// All functions with a size, by file offset; of several names for one place the first one.
fn functions(file: &ElfFile64<'_, LittleEndian>) -> Vec<Function> {
    let segments: Vec<_> =
        file.elf_program_headers().iter().filter(|s| s.p_type(LittleEndian) == elf::PT_LOAD).collect();
    let offset_of = |address: u64| {
        segments.iter().find_map(|segment| {
            let within = address.checked_sub(segment.p_vaddr(LittleEndian))?;
            let is_inside = within < segment.p_filesz(LittleEndian);
            is_inside.then(|| u32::try_from(segment.p_offset(LittleEndian) + within).ok())?
        })
    };
    let mut functions: Vec<Function> = file
        .symbols()
        .chain(file.dynamic_symbols())
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0)
        .filter_map(|symbol| {
            let start = offset_of(symbol.address())?;
            let end = start.checked_add(u32::try_from(symbol.size()).ok()?)?;
            Some(Function { start, end, name: symbol.name().ok()?.to_owned() })
        })
        .collect();
    functions.sort_by(|a, b| (a.start, &a.name).cmp(&(b.start, &b.name)));
    functions.dedup_by_key(|function| function.start);
    functions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reduced_executable_has_the_same_rows_and_keeps_no_code() {
        let path = std::env::current_exe().unwrap();
        let content = std::fs::read(&path).unwrap();
        let (reduced, functions) = reduce(&content).unwrap();
        assert_eq!(reduced.len(), content.len());
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("copy");
        std::fs::write(&copy, &reduced).unwrap();
        let rows = |path: &Path| tables::read(&std::fs::File::open(path).unwrap()).unwrap().rows;
        assert_eq!(rows(&path), rows(&copy));
        let text =
            object::File::parse(&*content).unwrap().section_by_name(".text").unwrap().file_range().unwrap();
        assert!(reduced[text.0 as usize..(text.0 + text.1) as usize].iter().all(|&byte| byte == 0));
        let this = functions.iter().find(|function| function.name.contains("keeps_no_code")).unwrap();
        assert!(u64::from(this.start) >= text.0 && u64::from(this.end) <= text.0 + text.1);
    }

    #[test]
    fn a_stored_executable_is_read_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let content = std::fs::read("/proc/self/exe").unwrap();
        let name = store_executable(dir.path(), "replay", &content).unwrap();
        let read = Executable::read(dir.path(), &name).unwrap();
        let (_, functions) = reduce(&content).unwrap();
        let this = functions.iter().find(|function| function.name.contains("is_read_by_its_name")).unwrap();
        assert_eq!(read.function(this.start + 1), Some(this.name.as_str()));
        assert!(matches!(read.rule(this.start + 1), unwind::Found::Rule(_)));
        assert_eq!(read.rule(0), unwind::Found::NoRow);
    }
}
