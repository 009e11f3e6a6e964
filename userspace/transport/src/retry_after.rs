//! The `Retry-After` header in both forms, RFC 9110 section 10.2.3.

use std::time::{Duration, SystemTime};

/// Longest wait that a server can ask for; a larger value is taken as this.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(5 * 60);

/// The wait that `value` asks for, seen at `now`: seconds, or a date, which is zero when it has
/// passed. `None` when it is neither.
pub fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Only a number too large for u64 fails here.
        let wait_s = value.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(wait_s).min(RETRY_AFTER_MAX));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT, the date of the RFC's examples.
    const EXAMPLE_UNIX_S: u64 = 784_111_777;

    #[test]
    fn both_forms_are_read_and_capped() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(EXAMPLE_UNIX_S - 30);
        let cases = [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("301", Some(300)),
            ("99999999999999999999999999", Some(300)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(30)),
            ("Sun Nov  6 08:49:37 1994", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 2044 08:49:37 GMT", Some(300)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ];
        for (value, seconds) in cases {
            assert_eq!(parse_retry_after(value, now), seconds.map(Duration::from_secs), "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_server_sends_the_wait_is_bounded(value in ".*", now_s in 0u64..1 << 40) {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now_s);
            prop_assert!(parse_retry_after(&value, now).is_none_or(|wait| wait <= RETRY_AFTER_MAX));
        }
    }
}
