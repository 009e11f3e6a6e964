//! Python's code objects, texts and line tables in memory of any content.
#![no_main]

#[path = "shared/bytes.rs"]
mod bytes;

use bytes::{Bytes, START};
use interpreters::part;
use libfuzzer_sys::fuzz_target;

/// Characters that are kept of a name, and the mark of what was cut.
const CHARACTERS_MAX: usize = 1025;

fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else { return };
    let minor = 6 + choice % 7;
    part::read_debug_offsets(data);
    let lines = part::read_lines(minor, u32::from(*choice), data);
    assert!(lines.is_sorted_by(|one, next| one.0 < next.0) && lines.len() <= data.len() + 1);
    if let Some(Ok(function)) = part::read_code(minor, START, &mut Bytes(data)) {
        assert!(function.name.chars().count() <= CHARACTERS_MAX);
        assert!(function.file.chars().count() <= CHARACTERS_MAX);
        function.line(u32::from(*choice));
    }
});
