//! Readable C++ and Rust names, with a limit on what a hostile name can expand to.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Longer names end in `…`.
pub const NAME_BYTES_MAX: usize = 4096;

const CUT: char = '…';

/// A name for people. Rust's legacy hash suffix is left out; a name of no known scheme stays as it is.
/// The second value tells whether the name was cut at [`NAME_BYTES_MAX`].
pub fn demangle(mangled: &str) -> (Cow<'_, str>, bool) {
    if mangled.len() > NAME_BYTES_MAX {
        let mut short = Limited::default();
        let whole = short.write_str(mangled).is_ok();
        return (Cow::Owned(short.finish()), !whole);
    }
    if let Ok(name) = rustc_demangle::try_demangle(mangled) {
        return limited(|out| write!(out, "{name:#}"), mangled);
    }
    if mangled.starts_with("_Z") || mangled.starts_with("__Z") {
        // The parser limits its own recursion; the output limit below is what it lacks.
        if let Ok(name) = cpp_demangle::Symbol::new(mangled) {
            let options = cpp_demangle::DemangleOptions::new();
            return limited(|out| name.structured_demangle(out, &options), mangled);
        }
    }
    (Cow::Borrowed(mangled), false)
}

fn limited<'a>(print: impl FnOnce(&mut Limited) -> fmt::Result, mangled: &'a str) -> (Cow<'a, str>, bool) {
    let mut out = Limited::default();
    match print(&mut out) {
        Ok(()) if !out.text.is_empty() => (Cow::Owned(out.text), false),
        _ if out.cut => (Cow::Owned(out.finish()), true),
        _ => (Cow::Borrowed(mangled), false),
    }
}

/// Text that refuses to grow beyond [`NAME_BYTES_MAX`].
#[derive(Default)]
struct Limited {
    text: String,
    cut: bool,
}

impl Limited {
    fn finish(mut self) -> String {
        if self.cut {
            self.text.push(CUT);
        }
        self.text
    }
}

impl Write for Limited {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = NAME_BYTES_MAX - CUT.len_utf8() - self.text.len();
        if part.len() <= room {
            self.text.push_str(part);
            return Ok(());
        }
        self.text.push_str(&part[..part.floor_char_boundary(room)]);
        self.cut = true;
        // Stops the demangler at once.
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_both_languages_become_readable() {
        assert_eq!(demangle("_ZN3foo3barEi").0, "foo::bar(int)");
        assert_eq!(
            demangle("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE").0,
            "core::fmt::Write::write_fmt"
        );
        assert_eq!(demangle("_RNvCsbmNqQUJIY6D_4core3foo").0, "core::foo");
        assert_eq!(demangle("memcpy").0, "memcpy");
        assert_eq!(demangle("_Znonsense").0, "_Znonsense");
    }

    #[test]
    fn a_name_that_expands_without_end_is_cut() {
        // Every argument is a pair of the one before, so the output doubles with each.
        let mut name = String::from("_Z1fSt4pairIiiE");
        for previous in "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ".chars() {
            name.push_str(&format!("S_IS{previous}_S{previous}_E"));
        }
        let (readable, cut) = demangle(&name);
        assert!(cut, "{readable}");
        assert!(readable.len() <= NAME_BYTES_MAX);
        assert!(readable.ends_with(CUT));
    }

    #[test]
    fn a_long_plain_name_is_cut_between_characters() {
        let long = "é".repeat(NAME_BYTES_MAX);
        let (readable, cut) = demangle(&long);
        assert!(cut);
        assert!(readable.len() <= NAME_BYTES_MAX && readable.ends_with(CUT));
    }
}
