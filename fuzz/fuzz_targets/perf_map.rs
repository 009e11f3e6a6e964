//! `/tmp/perf-PID.map`, which a process writes about itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use symbolizer::perf_map::parse;

/// Memory of one piece of a table; every line divides at most one other.
const PIECE_BYTES: u64 = 32;

fuzz_target!(|bytes: &[u8]| {
    let Ok(table) = parse(bytes) else { panic!("reading memory failed") };
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
    assert!(table.bytes() <= 2 * lines * PIECE_BYTES + bytes.len() as u64);
    let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else {
        assert_eq!(table.bytes(), 0);
        return;
    };
    // The last whole line wins over all others, if it makes sense.
    let last =
        bytes[..end].rsplit(|byte| *byte == b'\n').next().and_then(|line| std::str::from_utf8(line).ok());
    let mut words = last.unwrap_or_default().split(' ');
    let (Some(start), Some(size), Some(name), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return;
    };
    let hex = |word: &str| u64::from_str_radix(word, 16).ok().filter(|_| !word.starts_with('+'));
    let (Some(start), Some(size)) = (hex(start), hex(size)) else { return };
    let Some(last) = size.checked_sub(1).and_then(|size| start.checked_add(size)) else { return };
    if last < u64::MAX && !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()) {
        for address in [start, start + (last - start) / 2, last] {
            let found = table.lookup(address).unwrap_or_default();
            assert!(!found.is_empty() && name.starts_with(found), "{found:?} for {name:?}");
        }
    }
});
