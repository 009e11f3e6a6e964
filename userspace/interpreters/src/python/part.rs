//! Entrances for fuzzing: what is read of a process, on its own.

use python::{Identity, checksum};

use super::debug_offsets::DebugOffsets;
use super::offsets::LineFormat;
use super::{code, lines, table};
use crate::memory::{half, word};
use crate::{Code, Function, Memory, Unnamed};

/// A code object as a version of the table keeps it, taken to be the one that was sampled.
pub fn read_code(minor: u8, address: u64, memory: &mut dyn Memory) -> Option<Result<Function, Unnamed>> {
    let offsets = table::known(minor)?.offsets;
    let layout = &offsets.layout;
    let at = |offset: u16| address.wrapping_add(u64::from(offset));
    let identity = Identity {
        argcount: half(memory, at(layout.code_argcount))?,
        kwonly: half(memory, at(layout.code_kwonly))?,
        flags: half(memory, at(layout.code_flags))?,
        firstlineno: half(memory, at(layout.code_firstlineno))?,
        name: word(memory, at(layout.code_name))?,
        linetable: word(memory, at(layout.code_linetable))?,
    };
    let code_type = word(memory, at(layout.code_head))?;
    let code = Code { address, checksum: checksum(&identity) };
    Some(code::read(&offsets, code_type, code, memory))
}

/// Whether the bytes are `_Py_DebugOffsets` of a known version whose offsets can be.
pub fn read_debug_offsets(bytes: &[u8]) -> bool {
    DebugOffsets::parse(bytes).is_some_and(|debug| debug.offsets().is_ok())
}

/// A line table in the format of a minor version.
pub fn read_lines(minor: u8, first_line: u32, table: &[u8]) -> Vec<(u32, u32)> {
    let format = match minor {
        ..=9 => LineFormat::Steps,
        10 => LineFormat::Ranges,
        _ => LineFormat::Locations,
    };
    lines::decode(format, first_line, table)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text and a code object of 3.9 in memory from address 0 on.
    struct Bytes(Vec<u8>);

    impl Memory for Bytes {
        fn read(&mut self, address: u64, into: &mut [u8]) -> Option<()> {
            let start = usize::try_from(address).ok()?;
            into.copy_from_slice(self.0.get(start..start.checked_add(into.len())?)?);
            Some(())
        }
    }

    fn put(memory: &mut Bytes, at: usize, bytes: &[u8]) {
        memory.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn text(memory: &mut Bytes, at: usize, text: &[u8]) {
        put(memory, at + 16, &(text.len() as u64).to_le_bytes());
        put(memory, at + 32, &(1u32 << 2 | 1 << 5 | 1 << 6).to_le_bytes());
        put(memory, at + 48, text);
    }

    fn object() -> Bytes {
        let mut memory = Bytes(vec![0; 2048]);
        put(&mut memory, 40, &7u32.to_le_bytes());
        for (offset, at) in [(104, 512u64), (112, 768), (120, 1024)] {
            put(&mut memory, offset, &at.to_le_bytes());
        }
        text(&mut memory, 512, b"file.py");
        text(&mut memory, 768, b"name");
        put(&mut memory, 1024 + 16, &4u64.to_le_bytes());
        put(&mut memory, 1024 + 32, &[0, 1, 6, 2]);
        memory
    }

    #[test]
    fn a_code_object_gives_name_file_and_lines() {
        let function = read_code(9, 0, &mut object()).unwrap().unwrap();
        assert_eq!((function.name.as_str(), function.file.as_str()), ("name", "file.py"));
        assert_eq!((function.first_line, function.line(0), function.line(6)), (7, 8, 10));
        assert!(!function.is_cut);
    }

    #[test]
    fn another_object_at_the_address_is_not_named() {
        let offsets = table::known(9).unwrap().offsets;
        let named = |checksum: u32, code_type: u64| {
            code::read(&offsets, code_type, Code { address: 0, checksum }, &mut object())
        };
        let identity = Identity { firstlineno: 7, name: 768, linetable: 1024, ..Identity::default() };
        assert!(named(checksum(&identity), 0).is_ok());
        assert_eq!(named(checksum(&identity) ^ 1, 0), Err(Unnamed::Replaced));
        assert_eq!(named(checksum(&identity), 8), Err(Unnamed::Replaced));
    }

    #[test]
    fn a_table_that_claims_more_than_there_is_cannot_be_read() {
        let mut memory = object();
        put(&mut memory, 1024 + 16, &u64::MAX.to_le_bytes());
        assert_eq!(read_code(9, 0, &mut memory), Some(Err(Unnamed::Unreadable)));
    }

    #[test]
    fn debug_offsets_of_other_versions_or_content_are_refused() {
        let mut bytes = b"xdebugpy".to_vec();
        bytes.extend(0x030d_00f0_u64.to_le_bytes());
        bytes.extend([0; 800]);
        assert!(!read_debug_offsets(&bytes), "offsets of zero");
        assert!(!read_debug_offsets(b"xdebugpy"));
        assert!(!read_debug_offsets(&[0; 800]));
    }
}
