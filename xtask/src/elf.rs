//! The programs in a BPF object: its functions that do not lie in `.text`.

use anyhow::{Context, Result, bail};

const SECTION_HEADER_BYTES: usize = 64;
const SYMBOL_BYTES: usize = 24;
const SHT_SYMTAB: u32 = 2;
const STT_FUNC: u8 = 2;

/// A BPF program by its function, the section that gives its type, and its size.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) section: String,
    pub(crate) instructions: u64,
}

/// # Errors
/// When the bytes are not a little-endian 64-bit ELF object or a header points outside of them.
pub(crate) fn programs(object: &[u8]) -> Result<Vec<Program>> {
    if object.get(..6) != Some(b"\x7fELF\x02\x01") {
        bail!("not a 64-bit little-endian ELF object");
    }
    let offset = usize::try_from(u64_at(object, 40)?)?;
    let count = usize::from(u16_at(object, 60)?);
    let section = |index: usize| -> Result<Section> {
        let header = offset.checked_add(index * SECTION_HEADER_BYTES).context("section header offset")?;
        Ok(Section {
            name: u32_at(object, header)?,
            kind: u32_at(object, header + 4)?,
            offset: usize::try_from(u64_at(object, header + 24)?)?,
            bytes: usize::try_from(u64_at(object, header + 32)?)?,
            link: u32_at(object, header + 40)?,
        })
    };
    let names = section(usize::from(u16_at(object, 62)?))?;
    let mut programs = Vec::new();
    for table in (0..count).map(section).filter(|table| table.as_ref().is_ok_and(|t| t.kind == SHT_SYMTAB)) {
        let table = table?;
        let strings = section(usize::try_from(table.link)?)?;
        for symbol in (table.offset..table.offset.saturating_add(table.bytes)).step_by(SYMBOL_BYTES) {
            let info = *object.get(symbol + 4).context("symbol outside the file")?;
            if info & 0xf != STT_FUNC {
                continue;
            }
            let home = section(usize::from(u16_at(object, symbol + 6)?))?;
            let section = string_at(object, names.offset, home.name)?;
            if section != ".text" {
                let name = string_at(object, strings.offset, u32_at(object, symbol)?)?;
                programs.push(Program { name, section, instructions: u64_at(object, symbol + 16)? / 8 });
            }
        }
    }
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(programs)
}

struct Section {
    name: u32,
    kind: u32,
    offset: usize,
    bytes: usize,
    link: u32,
}

fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N]> {
    let end = offset.checked_add(N).context("offset overflows")?;
    let slice = bytes.get(offset..end).with_context(|| format!("offset {offset} is outside the file"))?;
    Ok(slice.try_into()?)
}

fn u16_at(bytes: &[u8], offset: usize) -> Result<u16> {
    array_at(bytes, offset).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], offset: usize) -> Result<u32> {
    array_at(bytes, offset).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], offset: usize) -> Result<u64> {
    array_at(bytes, offset).map(u64::from_le_bytes)
}

fn string_at(bytes: &[u8], table: usize, index: u32) -> Result<String> {
    let start = table.checked_add(usize::try_from(index)?).context("string offset")?;
    let text = bytes.get(start..).context("string outside the file")?;
    let end = text.iter().position(|&byte| byte == 0).context("string without an end")?;
    Ok(String::from_utf8_lossy(&text[..end]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_elf_is_an_error() {
        assert!(programs(b"#!/bin/sh\n").is_err());
        assert!(programs(&[]).is_err());
    }

    #[test]
    fn a_truncated_object_is_an_error_and_no_panic() {
        let mut header = b"\x7fELF\x02\x01".to_vec();
        header.resize(64, 0xff);
        assert!(programs(&header).is_err());
    }
}
