//! What a code object says of itself: name, file, lines.

use python::{Identity, NO_OFFSET, checksum};

use super::lines;
use super::offsets::Offsets;
use super::text;
use crate::memory::{half, word};
use crate::{Code, Function, Memory, Unnamed};

/// Bytes of a line table that are read; the rest of the function shows its first line.
const TABLE_BYTES_MAX: usize = 64 << 10;
/// Line numbers above are none.
const LINE_MAX: u32 = 1 << 30;

/// Reads a code object, if it is still the one that was sampled.
pub(super) fn read(
    offsets: &Offsets,
    code_type: u64,
    code: Code,
    memory: &mut dyn Memory,
) -> Result<Function, Unnamed> {
    let identity = identity(offsets, code_type, code.address, memory)?;
    if checksum(&identity) != code.checksum {
        return Err(Unnamed::Replaced);
    }
    let pointer = |offset: u16, memory: &mut dyn Memory| {
        word(memory, code.address.wrapping_add(u64::from(offset))).ok_or(Unnamed::Unreadable)
    };
    let name_at = match offsets.names.qualname {
        NO_OFFSET => identity.name,
        qualname => pointer(qualname, memory)?,
    };
    let file_at = pointer(offsets.layout.code_filename, memory)?;
    let (name, is_name_cut) = text::read(offsets.names.text, name_at, memory)?;
    let (file, is_file_cut) = text::read(offsets.names.text, file_at, memory)?;
    let (table, is_table_cut) = table(offsets, identity.linetable, memory)?;
    let first_line = if identity.firstlineno < LINE_MAX { identity.firstlineno } else { 0 };
    // It may have been freed and its address given away while it was read.
    if self::identity(offsets, code_type, code.address, memory)? != identity {
        return Err(Unnamed::Replaced);
    }
    Ok(Function {
        name,
        file,
        first_line,
        lines: lines::decode(offsets.names.lines, first_line, &table),
        is_cut: is_name_cut || is_file_cut || is_table_cut,
    })
}

fn identity(
    offsets: &Offsets,
    code_type: u64,
    address: u64,
    memory: &mut dyn Memory,
) -> Result<Identity, Unnamed> {
    let layout = &offsets.layout;
    let at = |offset: u16| address.wrapping_add(u64::from(offset));
    let mut number = |offset: u16| half(memory, at(offset)).ok_or(Unnamed::Unreadable);
    let (argcount, kwonly) = (number(layout.code_argcount)?, number(layout.code_kwonly)?);
    let (flags, firstlineno) = (number(layout.code_flags)?, number(layout.code_firstlineno)?);
    let mut pointer = |offset: u16| word(memory, at(offset)).ok_or(Unnamed::Unreadable);
    if pointer(layout.code_head)? != code_type {
        return Err(Unnamed::Replaced);
    }
    let (name, linetable) = (pointer(layout.code_name)?, pointer(layout.code_linetable)?);
    Ok(Identity { argcount, kwonly, flags, firstlineno, name, linetable })
}

/// The bytes of a line table, and whether there are more.
fn table(offsets: &Offsets, at: u64, memory: &mut dyn Memory) -> Result<(Vec<u8>, bool), Unnamed> {
    let size_at = at.wrapping_add(u64::from(offsets.names.bytes_size));
    let bytes = word(memory, size_at).ok_or(Unnamed::Unreadable)?;
    let mut table = vec![0; bytes.min(TABLE_BYTES_MAX as u64) as usize];
    let data_at = at.wrapping_add(u64::from(offsets.names.bytes_data));
    memory.read(data_at, &mut table).ok_or(Unnamed::Unreadable)?;
    Ok((table, bytes > TABLE_BYTES_MAX as u64))
}
