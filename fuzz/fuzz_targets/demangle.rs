//! Symbol names, which are bytes of an untrusted file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use symbolizer::{NAME_BYTES_MAX, demangle};

fuzz_target!(|name: &str| {
    let (readable, cut) = demangle(name);
    assert!(readable.len() <= NAME_BYTES_MAX, "{} bytes", readable.len());
    assert!(name.is_empty() || !readable.is_empty());
    assert!(!cut || readable.ends_with('…'));
});
