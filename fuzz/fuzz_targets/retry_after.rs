//! The `Retry-After` header of a backend's answer.
#![no_main]

use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use transport::{RETRY_AFTER_MAX, parse_retry_after};

/// In 2023.
const NOW_UNIX_S: u64 = 1_700_000_000;

fuzz_target!(|value: &str| {
    for now_unix_s in [0, NOW_UNIX_S] {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now_unix_s);
        assert!(parse_retry_after(value, now).is_none_or(|wait| wait <= RETRY_AFTER_MAX));
    }
});
