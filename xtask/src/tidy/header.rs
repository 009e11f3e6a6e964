//! Every file starts by saying what it is.

use super::{Finding, Source};

pub(super) fn check(source: &Source) -> Option<Finding> {
    let says = source.text.lines().next().and_then(|line| line.strip_prefix("//!"));
    let is_said = says.is_some_and(|text| !text.trim().is_empty());
    (!is_said).then(|| Finding::new(&source.path, 1, "the first line must be `//!` and say what the file is"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_does_not_say_what_it_is_is_found() {
        for bad in ["fn a() {}\n", "//!\nfn a() {}\n", "\n//! Late.\n", ""] {
            let finding = check(&Source::parse("a.rs", bad).unwrap());
            assert_eq!(finding.map(|finding| finding.line), Some(1), "{bad:?}");
        }
        assert_eq!(check(&Source::parse("a.rs", "//! A thing.\n").unwrap()), None);
    }
}
