//! An executable's unwind information, from the headers on; the file may be sparse and of any size.
#![no_main]

#[path = "shared/memory_file.rs"]
mod memory_file;
#[path = "shared/unwind_rows.rs"]
mod unwind_rows;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((size, elf)) = memory_file::split(data) else { return };
    if let Ok(rows) = tables::read(&memory_file::sparse(elf, size)) {
        unwind_rows::check(&rows);
    }
});
