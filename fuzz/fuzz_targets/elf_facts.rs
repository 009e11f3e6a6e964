//! An executable's headers as the profiler reads them; the file may be sparse and claim any size.
#![no_main]

#[path = "shared/memory_file.rs"]
mod memory_file;

use libfuzzer_sys::fuzz_target;
use profiler::executable::read_facts;

fuzz_target!(|data: &[u8]| {
    let Some((size, elf)) = memory_file::split(data) else { return };
    let facts = read_facts(&memory_file::sparse(elf, size));
    assert!(facts.build_id.len() <= 64);
    assert!(facts.segments.len() <= 4096);
});
