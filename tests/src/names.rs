//! Names of functions as a test compares them, and the kind of code that a frame is in.

use std::path::Path;

use crate::chains::Seen;
use crate::pprof::Frame;
use crate::symbols::{Place, Symbols};

/// Endings that a compiler gives to the parts and copies of a function.
const COMPILER_SUFFIXES: [&str; 6] = [".constprop.", ".isra.", ".part.", ".lto_priv.", ".cold", ".llvm."];
/// What a frame in a stub is called.
const STUB: &str = "[plt]";
const ANONYMOUS: &str = "(anonymous namespace)";

/// The kind of code that a frame is in, by the file it was mapped from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The program's own file, or a library that belongs to it.
    Own,
    /// A stub of the program that jumps to a library.
    Stub,
    Libc,
    Loader,
    /// Another library of the system.
    Library,
    /// Code that the kernel maps into every process.
    Vdso,
    Kernel,
    Unknown,
}

impl Kind {
    /// Of the file with this path; `own` are the names of the program's own files.
    pub fn of(mapping: &str, own: &[&str]) -> Self {
        let file = file_name(mapping);
        if mapping == "[kernel]" {
            Self::Kernel
        } else if mapping.contains("vdso") {
            Self::Vdso
        } else if own.contains(&file) {
            Self::Own
        } else if file.starts_with("libc.so") || file.starts_with("libc-2") {
            Self::Libc
        } else if file.starts_with("ld-linux") || file.starts_with("ld-2") || file.starts_with("ld-musl") {
            Self::Loader
        } else if file.starts_with("lib") && file.contains(".so") {
            Self::Library
        } else {
            Self::Unknown
        }
    }

    pub fn is_library(self) -> bool {
        matches!(self, Self::Libc | Self::Loader | Self::Library)
    }
}

/// The last part of a path, without the mark of a file that was deleted.
pub fn file_name(path: &str) -> &str {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or(path)
}

/// A frame as patterns see it. What stands as file and offset gets its name from `truth`, the symbols that the
/// program's file had before they were taken out of it.
pub fn seen(frame: &Frame, own: &[&str], truth: Option<&Symbols>) -> Seen {
    let kind = Kind::of(&frame.mapping, own);
    let stub = if frame.name == STUB { Some("") } else { frame.name.strip_suffix("@plt") };
    if let Some(name) = stub {
        return Seen { name: name.to_owned(), kind: if kind == Kind::Own { Kind::Stub } else { kind } };
    }
    let Some(file_offset) = unnamed(frame) else {
        return Seen { name: plain(&frame.name), kind };
    };
    let place = match (kind, file_offset, truth) {
        // A frame stands one byte before its return address, which is the first of the function that ends a signal.
        (Kind::Own, Some(file_offset), Some(truth)) => {
            truth.at(file_offset).or_else(|| truth.at(file_offset + 1))
        }
        _ => None,
    };
    match place {
        Some(Place::Function(name)) => Seen { name: plain(name), kind },
        Some(Place::Stub) => Seen { name: String::new(), kind: Kind::Stub },
        None => Seen { name: String::new(), kind },
    }
}

/// `Some` for a frame without a name: its offset in the file, if that is what stands in the name's place.
pub fn unnamed(frame: &Frame) -> Option<Option<u64>> {
    if frame.name.is_empty() || (frame.name.starts_with('[') && frame.name.ends_with(']')) {
        return Some(None);
    }
    let (file, offset) = frame.name.rsplit_once("+0x")?;
    let offset = u64::from_str_radix(offset, 16).ok()?;
    (file == file_name(&frame.mapping) || file.starts_with('[')).then_some(Some(offset))
}

/// A name without its parameters and without the endings that compilers add.
pub fn plain(name: &str) -> String {
    let mut end = name.len();
    let mut from = 0;
    while let Some(at) = name[from..].find('(').map(|at| at + from) {
        if name[at..].starts_with(ANONYMOUS) {
            from = at + ANONYMOUS.len();
        } else {
            // A name such as `operator()` keeps its parentheses.
            let is_operator = name[..at].ends_with("operator");
            end = if is_operator { (at + 2).min(name.len()) } else { at };
            break;
        }
    }
    let mut name = &name[..end];
    for suffix in COMPILER_SUFFIXES {
        if let Some(at) = name.find(suffix).filter(|at| *at > 0) {
            name = &name[..at];
        }
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(name: &str, mapping: &str) -> Frame {
        Frame { name: name.to_owned(), mapping: mapping.to_owned(), ..Frame::default() }
    }

    #[test]
    fn a_files_name_tells_its_kind() {
        for (mapping, kind) in [
            ("[kernel]", Kind::Kernel),
            ("[vdso]", Kind::Vdso),
            ("/tmp/x/deep", Kind::Own),
            ("/tmp/x/deep (deleted)", Kind::Own),
            ("/usr/lib/x86_64-linux-gnu/libc.so.6", Kind::Libc),
            ("/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", Kind::Loader),
            ("/lib/libstdc++.so.6.0.30", Kind::Library),
            ("[unknown]", Kind::Unknown),
            ("/tmp/x/deeper", Kind::Unknown),
        ] {
            assert_eq!(Kind::of(mapping, &["deep"]), kind, "{mapping}");
        }
    }

    #[test]
    fn names_are_compared_without_parameters_and_endings() {
        for (name, expected) in [
            ("work_a", "work_a"),
            ("work_a.lto_priv.0", "work_a"),
            ("toss.cold", "toss"),
            ("shop::Basket<unsigned long>::total(int)", "shop::Basket<unsigned long>::total"),
            ("(anonymous namespace)::pool::free(void*)", "(anonymous namespace)::pool::free"),
            ("f::operator()(int)", "f::operator()"),
            ("runtime.goexit.abi0", "runtime.goexit.abi0"),
        ] {
            assert_eq!(plain(name), expected);
        }
    }

    #[test]
    fn file_and_offset_are_no_name() {
        assert_eq!(unnamed(&frame("deep+0x1230", "/tmp/deep")), Some(Some(0x1230)));
        assert_eq!(unnamed(&frame("[unknown]", "[unknown]")), Some(None));
        assert_eq!(unnamed(&frame("", "/tmp/deep")), Some(None));
        assert_eq!(unnamed(&frame("deep", "/tmp/deep")), None);
        assert_eq!(unnamed(&frame("other+0x1230", "/tmp/deep")), None);
        assert_eq!(seen(&frame("libc.so.6+0x10", "/lib/libc.so.6"), &[], None).name, "");
    }

    #[test]
    fn a_stub_that_is_named_as_one_is_no_function() {
        for (name, expected) in [("strlen@plt", "strlen"), ("[plt]", "")] {
            let stub = seen(&frame(name, "/tmp/lazy"), &["lazy"], None);
            assert_eq!(stub, Seen { name: expected.to_owned(), kind: Kind::Stub });
        }
        assert_eq!(seen(&frame("[plt]", "/lib/libc.so.6"), &["lazy"], None).kind, Kind::Libc);
    }
}
