//! An executable as an interpreter and a C library are looked for in it; the file may be sparse and claim any size.
#![no_main]

#[path = "shared/bytes.rs"]
mod bytes;
#[path = "shared/memory_file.rs"]
mod memory_file;

use bytes::{Bytes, START};
use interpreters::{Elf, Libc, Loader, Python};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((size, content)) = memory_file::split(data) else { return };
    let file = memory_file::sparse(content, size);
    let is_wanted = |name: &[u8]| Python.is_wanted(name) || Libc::is_wanted(name);
    let Ok(elf) = Elf::read(&file, &is_wanted) else { return };
    let libc = Libc::recognise(&elf).ok().flatten();
    elf.bias(0x1000, 0);
    if let Ok(Some(data)) = Python.recognise(&elf) {
        assert!(!data.code().evaluation.is_empty());
        // The process holds the file as it is; that this is no interpreter at work is an answer too.
        data.attach(START, libc, &mut Bytes(content)).ok();
    }
});
