//! Go's table of functions without headers around it: the section is the whole file.
#![no_main]

#[path = "shared/memory_file.rs"]
mod memory_file;
#[path = "shared/unwind_rows.rs"]
mod unwind_rows;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((size, table)) = memory_file::split(data) else { return };
    let rows = tables::part::read_gopclntab(&memory_file::sparse(table, size));
    unwind_rows::check(&rows.unwrap_or_else(|error| panic!("{error}")));
});
