//! `/proc/PID/maps`; a process chooses the paths in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use profiler::mapping::{Backing, parse};

fuzz_target!(|bytes: &[u8]| {
    let Ok(mappings) = parse(bytes) else { panic!("reading memory failed") };
    for mapping in mappings {
        assert!(mapping.start < mapping.end);
        if let Backing::File { path, inode } = mapping.backing {
            assert!(inode.inode != 0 && path.starts_with('/') && !path.contains('\n'), "{path:?}");
        }
    }
});
