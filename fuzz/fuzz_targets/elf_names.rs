//! Names, lines and inlined calls of an untrusted executable, the whole way through blazesym.
#![no_main]

#[path = "shared/memory_file.rs"]
mod memory_file;

use std::panic;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use symbolizer::{Config, Executable, Query, Reason, Resolver};

const OFFSETS: u64 = 64;

// A panic below the resolver is caught by it and answered with a reason, so it may unwind here.
fuzz_target!(init: panic::set_hook(Box::new(|_| {})), |data: &[u8]| {
    let Some((size, elf)) = memory_file::split(data) else { return };
    let config = Config {
        symbol_bytes_max: 1 << 20,
        debug_bytes_max: 1 << 20,
        inflated_bytes_max: 1 << 20,
        ..Config::default()
    };
    let executable = Arc::new(Executable {
        id: 1,
        file: memory_file::sparse(elf, size),
        path: "/fuzzed".to_owned(),
        build_id: Vec::new(),
        symbol_bytes: 0,
        debug_bytes: 0,
    });
    let query = |file_offset| Query::User { executable: Arc::clone(&executable), file_offset };
    let queries: Vec<Query> = (0..OFFSETS).map(|at| query(at * 16)).collect();
    let answers = Resolver::new(&config).resolve(&queries);
    assert_eq!(answers.len(), queries.len());
    for answer in &answers {
        match answer {
            Ok(frames) => assert!(!frames.is_empty()),
            Err(reason) => assert!(*reason != Reason::ProcessGone && *reason != Reason::KallsymsHidden),
        }
    }
});
