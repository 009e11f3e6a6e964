//! Records of the ring buffer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use profiler::event::{Event, decode};

fuzz_target!(|bytes: &[u8]| {
    match decode(bytes) {
        Some(Event::Stack(stack)) => assert!((stack.kernel.len() + stack.user.len()) * 8 <= bytes.len()),
        Some(Event::Raw(raw)) => assert!(raw.stack.kernel.len() * 8 + raw.memory.len() <= bytes.len()),
        Some(Event::Cgroup { path, .. }) => assert!(path.starts_with('/')),
        None => {}
    }
});
