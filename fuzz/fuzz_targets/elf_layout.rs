//! An executable's headers as the symbolizer reads them before it lets anything else see the file.
#![no_main]

#[path = "shared/memory_file.rs"]
mod memory_file;

use libfuzzer_sys::fuzz_target;

/// As the symbolizer's own default.
const SYMBOL_BYTES_MAX: u64 = 1 << 20;
const INFLATED_BYTES_MAX: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((size, elf)) = memory_file::split(data) else { return };
    let file = memory_file::sparse(elf, size);
    let Ok(layout) = symbolizer::layout::parse(&file) else { return };
    if let Ok(bytes) = layout.symbol_bytes_unpacked(&file, SYMBOL_BYTES_MAX) {
        assert!(bytes <= SYMBOL_BYTES_MAX);
    }
    assert!(layout.inflated_bytes <= layout.debug_bytes);
    if layout.inflated_bytes <= INFLATED_BYTES_MAX {
        layout.inflated_as_claimed(&file);
    }
    for offset in (0..size).step_by(64).take(256).chain([u64::MAX]) {
        layout.virtual_address(offset);
    }
});
