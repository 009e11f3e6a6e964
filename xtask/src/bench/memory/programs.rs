//! The many small programs: filters that are fed a little at a time, so that each is sampled and none takes a CPU.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::workspace;

/// So many distinct executables must be there.
pub(super) const PROGRAMS_MIN: usize = 20;

/// A program that reads its input for ever.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filter {
    pub(super) name: &'static str,
    pub(super) arguments: &'static [&'static str],
    pub(super) input: Input,
    /// At most so much is fed at once; the costly ones get less.
    pub(super) chunk_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    Text,
    /// For a calculator.
    Numbers,
    Sql,
    Json,
}

impl Input {
    /// Whole lines, to be repeated.
    pub(super) fn text(self) -> Vec<u8> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 12
        };
        let mut line = |n: u32| match self {
            Self::Text => {
                format!("{n} {:x} the quick {:o} jumps over {} and {:x}\n", next(), next(), next(), next())
            }
            Self::Numbers => format!("{} * 7 ^ {}\n", next(), n % 400),
            Self::Sql => format!(
                "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x < 900) SELECT sum(x * {}) FROM c;\n",
                next()
            ),
            Self::Json => format!(
                "{{\"id\": {n}, \"values\": [{}, {}, {}], \"name\": \"n{:x}\"}}\n",
                next(),
                next(),
                next(),
                next()
            ),
        };
        (0..2000).flat_map(|n| line(n).into_bytes()).collect()
    }
}

const fn text(name: &'static str, arguments: &'static [&'static str], chunk_bytes: usize) -> Filter {
    Filter { name, arguments, input: Input::Text, chunk_bytes }
}

const LARGE: usize = 64 * 1024;
const MIDDLE: usize = 16 * 1024;
const SMALL: usize = 2 * 1024;

const FILTERS: [Filter; 32] = [
    text("gzip", &["-c"], MIDDLE),
    text("bzip2", &["-c"], SMALL),
    text("xz", &["-1", "-c"], SMALL),
    text("zstd", &["-q", "-c"], LARGE),
    text("openssl", &["enc", "-aes-256-cbc", "-pbkdf2", "-pass", "pass:x"], LARGE),
    text("sha256sum", &[], LARGE),
    text("sha1sum", &[], LARGE),
    text("md5sum", &[], LARGE),
    text("b2sum", &[], LARGE),
    text("cksum", &[], LARGE),
    text("base64", &[], LARGE),
    text("od", &["-A", "x", "-t", "x1"], MIDDLE),
    text("tr", &["a-z", "A-Z"], LARGE),
    text("grep", &["-c", "-E", "(ab|cd)+[0-9]x"], LARGE),
    text("sed", &["-e", "s/[0-9][0-9]*/#/g"], MIDDLE),
    text("awk", &["{ sum[$2 % 100] += length($0) }"], MIDDLE),
    text("wc", &[], LARGE),
    text("cut", &["-d", " ", "-f", "2,4"], LARGE),
    text("nl", &[], LARGE),
    text("fold", &["-w", "17"], LARGE),
    text("expand", &[], LARGE),
    text("uniq", &["-c"], LARGE),
    text("paste", &["-", "-"], LARGE),
    text("strings", &[], MIDDLE),
    text(
        "python3",
        &["-c", "import sys\nfor line in sys.stdin: sum(map(len, sorted(line.split())))"],
        MIDDLE,
    ),
    text("perl", &["-ne", "$count{$_}++ for split(/\\D+/); %count = () if keys %count > 1000"], MIDDLE),
    text("ruby", &["-ne", "$_.split.map(&:size).sum"], MIDDLE),
    text("bash", &["-c", "while read -r line; do ((sum += ${#line})); done"], SMALL),
    text("dash", &["-c", "while read -r line; do sum=$((sum + ${#line})); done"], SMALL),
    Filter { name: "bc", arguments: &[], input: Input::Numbers, chunk_bytes: SMALL },
    Filter { name: "sqlite3", arguments: &[], input: Input::Sql, chunk_bytes: SMALL },
    Filter { name: "jq", arguments: &["-c", ".values | add"], input: Input::Json, chunk_bytes: SMALL },
];

/// Those that are here, each an executable that is no other's.
///
/// # Errors
/// When there are too few.
pub(super) fn find() -> Result<Vec<(PathBuf, Filter)>> {
    let mut seen = Vec::new();
    let mut found = Vec::new();
    for filter in FILTERS {
        let Some(path) = workspace::find_program(filter.name) else { continue };
        let Ok(file) = fs::metadata(&path) else { continue };
        let identity = (file.dev(), file.ino());
        if !seen.contains(&identity) {
            seen.push(identity);
            found.push((path, filter));
        }
    }
    if found.len() < PROGRAMS_MIN {
        let names: Vec<&str> = found.iter().map(|(_, filter)| filter.name).collect();
        bail!("{PROGRAMS_MIN} different programs are needed; here are {}: {}", names.len(), names.join(", "));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_whole_lines_and_more_than_one_chunk() {
        for input in [Input::Text, Input::Numbers, Input::Sql, Input::Json] {
            let text = input.text();
            assert!(text.ends_with(b"\n") && text.len() > SMALL, "{input:?}: {} bytes", text.len());
        }
    }

    #[test]
    fn no_executable_is_taken_twice() {
        let found = find().unwrap();
        let mut paths: Vec<PathBuf> = found.iter().map(|(path, _)| path.canonicalize().unwrap()).collect();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), found.len());
    }
}
