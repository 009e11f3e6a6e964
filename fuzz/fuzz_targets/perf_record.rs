//! Records of a perf ring; a process chooses the paths in them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use profiler::records::{Body, Mapped, decode};

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some(record)) = decode(bytes) else { return };
    if let Body::Mapped(Mapped { pid, start, end, path, .. }) = record.body {
        assert!(start < end && pid != 0);
        // A byte that is no text becomes a mark of three.
        assert!(path.len() <= 3 * bytes.len() && path.len() <= 3 * 4096 && !path.contains('\0'), "{path:?}");
    }
});
