//! Names and values that every backend takes, made from whatever was observed.

/// Longest label name, Pyroscope's default limit.
pub const LABEL_NAME_BYTES_MAX: usize = 1024;
/// Longest label value, Pyroscope's default limit; a longer one is cut and ends in `…`.
pub const LABEL_VALUE_BYTES_MAX: usize = 2048;
/// Longest process name. The kernel's own are shorter (15 bytes, 63 for its threads); the limit is
/// for names that come from elsewhere. A longer one is cut and ends in `…`.
pub const PROCESS_NAME_BYTES_MAX: usize = 64;

const CUT_MARK: &str = "…";

/// Whether `name` may be configured as a label: letters, digits and `_`, not starting with a digit,
/// and not with `__`, which is kept for names that backends give a meaning.
pub fn is_valid_label_name(name: &str) -> bool {
    let starts_well = name.bytes().next().is_some_and(|first| !first.is_ascii_digit());
    starts_well
        && name.len() <= LABEL_NAME_BYTES_MAX
        && !name.starts_with("__")
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// `value` without control characters (each becomes a space), without space around it, and within
/// [`LABEL_VALUE_BYTES_MAX`].
pub fn label_value(value: &str) -> String {
    printable(value, LABEL_VALUE_BYTES_MAX)
}

/// A process's name as it may be shown: a process can call itself anything, in any bytes. What is
/// not UTF-8 becomes U+FFFD, control characters become spaces, at most [`PROCESS_NAME_BYTES_MAX`]
/// bytes stay.
pub fn process_name(raw: &[u8]) -> String {
    printable(&String::from_utf8_lossy(raw), PROCESS_NAME_BYTES_MAX)
}

fn printable(text: &str, bytes_max: usize) -> String {
    let clean: String = text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    let clean = clean.trim();
    if clean.len() <= bytes_max {
        return clean.to_owned();
    }
    let end = clean.floor_char_boundary(bytes_max - CUT_MARK.len());
    format!("{}{CUT_MARK}", clean[..end].trim_end())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_processes_come_out_printable() {
        let cases: [(&[u8], &str); 8] = [
            (b"nginx", "nginx"),
            (b"[kernel]", "[kernel]"),
            (b"tmux: server", "tmux: server"),
            (b"\x1b[31mred\x07", "[31mred"),
            (b"two\nlines", "two lines"),
            (b"bad\xff\xfeutf8", "bad\u{fffd}\u{fffd}utf8"),
            (b"  \t ", ""),
            (b"", ""),
        ];
        for (raw, expected) in cases {
            assert_eq!(process_name(raw), expected, "{raw:?}");
        }
    }

    #[test]
    fn a_cut_value_says_so_and_keeps_whole_characters() {
        let exact = "x".repeat(PROCESS_NAME_BYTES_MAX);
        assert_eq!(process_name(exact.as_bytes()), exact);
        let cut = process_name("é".repeat(40).as_bytes());
        assert_eq!(cut, format!("{}…", "é".repeat(30)));
        let long = label_value(&"y".repeat(5000));
        assert!(long.len() == LABEL_VALUE_BYTES_MAX && long.ends_with('…'));
    }

    #[test]
    fn label_names_are_judged_as_backends_judge_them() {
        for good in ["cluster", "k8s_pod", "_x", "A1"] {
            assert!(is_valid_label_name(good), "{good}");
        }
        let long = "a".repeat(LABEL_NAME_BYTES_MAX + 1);
        for bad in ["", "1a", "a.b", "a-b", "a b", "é", "__name__", "__x", &long] {
            assert!(!is_valid_label_name(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_short_printable_name(raw in proptest::collection::vec(any::<u8>(), 0..300)) {
            let name = process_name(&raw);
            prop_assert!(name.len() <= PROCESS_NAME_BYTES_MAX);
            prop_assert!(!name.chars().any(char::is_control));
            prop_assert_eq!(process_name(name.as_bytes()), name);
        }
    }
}
