//! The kernel's symbol list; modules and BPF programs choose names in it.
#![no_main]

use std::io::BufReader;

use libfuzzer_sys::fuzz_target;
use symbolizer::kallsyms::parse;

fuzz_target!(|bytes: &[u8]| {
    let Ok(whole) = parse(bytes) else { panic!("reading memory failed") };
    let Ok(pieces) = parse(BufReader::with_capacity(7, bytes)) else { panic!("reading memory failed") };
    let (Ok(whole), Ok(pieces)) = (whole, pieces) else { return };
    assert!(whole.symbols() <= bytes.len());
    let words =
        bytes.split(|byte| byte.is_ascii_whitespace()).filter_map(|word| std::str::from_utf8(word).ok());
    for address in words.filter_map(|word| u64::from_str_radix(word, 16).ok()).take(64) {
        for address in [address.saturating_sub(1), address, address.saturating_add(1)] {
            assert_eq!(whole.lookup(address), pieces.lookup(address));
            assert_ne!(whole.lookup(address).as_deref(), Some(""));
            assert_eq!(whole.core_contains(address), pieces.core_contains(address));
        }
    }
});
