//! The machine that a number came from.

use std::thread;
use std::{env, fs};

/// One line: processor, CPUs, memory, kernel.
pub(super) fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let model = field(&cpuinfo, "model name").unwrap_or("unknown processor");
    let memory_kib: u64 = field(&meminfo, "MemTotal").and_then(number).unwrap_or(0);
    let cpus = thread::available_parallelism().map_or(0, usize::from);
    format!("{model}, {cpus} CPUs, {} MiB, Linux {}", memory_kib / 1024, kernel.trim())
}

/// How this program was called, for a result to name.
pub(super) fn command_line() -> String {
    let words: Vec<String> = env::args().skip(1).collect();
    format!("cargo xtask {}", words.join(" "))
}

/// The value of the first line `key: value`.
pub(super) fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

/// The number a value such as `1234 kB` begins with.
pub(super) fn number(value: &str) -> Option<u64> {
    value.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_field_of_a_name_is_read() {
        let text = "model name\t: Fast 9000\nmodel name\t: Other\nMemTotal:       2048 kB\n";
        assert_eq!(field(text, "model name"), Some("Fast 9000"));
        assert_eq!(field(text, "MemTotal").and_then(number), Some(2048));
        assert_eq!(field(text, "model"), None);
    }
}
