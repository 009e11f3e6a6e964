//! Addresses of backends, from the configuration.
#![no_main]

use libfuzzer_sys::fuzz_target;
use transport::Url;

fuzz_target!(|text: &str| {
    let url = match Url::parse("url", text) {
        Ok(url) => url,
        Err(error) => {
            assert!(error.to_string().starts_with("url: "));
            return;
        }
    };
    let shown = url.to_string();
    let again = Url::parse("url", &shown);
    assert_eq!(again.map(|url| url.to_string()).ok(), Some(shown));
    let push = url.with_path("push.v1.PusherService/Push").to_string();
    assert!(push.ends_with("/push.v1.PusherService/Push"), "{push}");
});
