//! The collector's configuration file: read, checked, shown, and read again as shown.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// The binary's own sources, since a binary cannot be depended on.
#[path = "../../userspace/agent/src"]
#[allow(dead_code, unused_imports, reason = "the binary uses more of it than this target")]
mod agent {
    pub(crate) mod config;
    pub(crate) mod store_writer;
}

use agent::{config, store_writer};

fn environment(name: &str) -> Option<String> {
    match name {
        "HOST" => Some("pyroscope".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fuzz_target!(|text: &str| {
    // Names of files in a mutated text may be those of any file of this machine.
    if text.contains("_file") {
        return;
    }
    match config::Config::parse("fuzz.yaml", text, &environment) {
        Ok(config) => {
            let shown = config.to_yaml();
            let again = config::Config::parse("shown.yaml", &shown, &|_| None);
            let again = again.unwrap_or_else(|problems| panic!("{problems}\n{shown}"));
            assert_eq!(again.to_yaml(), shown);
            assert!(config.restart_needed(&again).is_empty(), "{:?}", config.restart_needed(&again));
        }
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
});
