//! Tests of the module `values`.

use super::{Interval, Size, Url};

#[test]
fn durations_and_sizes_are_shown_as_they_are_written() {
    for text in ["15s", "500ms", "24h", "2m", "7d", "0s"] {
        assert_eq!(text.parse::<Interval>().expect(text).to_string(), text);
    }
    for text in ["256MiB", "1GiB", "1B", "0B"] {
        assert_eq!(text.parse::<Size>().expect(text).to_string(), text);
    }
    for text in ["15", "s", "", "-1s", "1.5h", "99999999999999999999s", "18446744073709551615d", "15 parsecs"]
    {
        assert!(text.parse::<Interval>().is_err(), "{text}");
    }
    assert!("256MB".parse::<Size>().expect_err("not binary").contains("MiB"));
}

#[test]
fn addresses_are_checked_and_never_repeat_a_password() {
    let error = "http://user:hunter2@host".parse::<Url>().expect_err("credentials");
    assert!(error.contains("basic_auth") && !error.contains("hunter2"), "{error}");
    for bad in [
        "pyroscope:4040",
        "http://",
        "http://:80",
        "http://h:0",
        "http://h:99999",
        "http://h/?a=b",
        "http://a b",
    ] {
        assert!(bad.parse::<Url>().is_err(), "{bad}");
    }
    let cases = [
        ("http://pyroscope:4040/", "pyroscope", 4040),
        ("https://host/path", "host", 443),
        ("http://[::1]:4040", "::1", 4040),
        ("http://[::1]", "::1", 80),
    ];
    for (text, host, port) in cases {
        let url: Url = text.parse().expect(text);
        assert_eq!(url.host_and_port(), (host.to_owned(), port), "{text}");
    }
}
