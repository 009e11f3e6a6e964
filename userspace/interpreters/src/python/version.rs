//! Which CPython a file is, by what it says itself.

use std::fmt;

use crate::x86::{self, Event};
use crate::{Elf, Error};

/// The versions whose structs are known.
const MINORS: std::ops::RangeInclusive<u8> = 6..=15;
const CODE_BYTES_MAX: usize = 256;
/// A version's text is short: "3.11.0rc1+".
const TEXT_BYTES_MAX: usize = 16;

/// A version of CPython 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) minor: u8,
    pub(super) micro: u8,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "3.{}.{}", self.minor, self.micro)
    }
}

impl Version {
    /// By `Py_Version` (3.11 and later), or by the text that `Py_GetVersion` puts into its answer.
    pub(super) fn read(elf: &Elf<'_>) -> Result<Self, Error> {
        let hex = elf.exported("Py_Version").and_then(|symbol| elf.word(symbol.address));
        let (version, said) = match hex {
            Some(hex) => (Self::of_hex(hex), format!("{hex:#x}")),
            None => {
                let text = text(elf).ok_or(Error::Missing("a version"))?;
                (Self::of_text(&text), text)
            }
        };
        version
            .filter(|version| MINORS.contains(&version.minor))
            .ok_or(Error::VersionUnknown { interpreter: super::NAME, version: said })
    }

    /// `PY_VERSION_HEX`: major, minor, micro, level and serial.
    pub(super) fn of_hex(hex: u64) -> Option<Self> {
        let version = Self { minor: (hex >> 16) as u8, micro: (hex >> 8) as u8 };
        (hex >> 24 == 3).then_some(version)
    }

    fn of_text(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("3.")?.split(|c: char| !c.is_ascii_digit());
        let minor = parts.next()?.parse().ok()?;
        let micro = parts.next()?.parse().ok()?;
        Some(Self { minor, micro })
    }
}

/// The text among those that the function names which looks like a version.
fn text(elf: &Elf<'_>) -> Option<String> {
    let symbol = elf.exported("Py_GetVersion")?;
    let code = elf.up_to(symbol.address, CODE_BYTES_MAX);
    x86::follow(&code, symbol.address).into_iter().find_map(|event| match event {
        Event::Name(address) => elf.text(address).filter(|text| is_version(text)),
        _ => None,
    })
}

fn is_version(text: &str) -> bool {
    let starts = text.split_once('.').is_some_and(|(major, rest)| {
        major.len() == 1 && major.as_bytes()[0].is_ascii_digit() && rest.contains('.')
    });
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+');
    starts && text.len() <= TEXT_BYTES_MAX && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_numbers_and_texts() {
        assert_eq!(Version::of_hex(0x030b_07f0), Some(Version { minor: 11, micro: 7 }));
        assert_eq!(Version::of_hex(0x020b_07f0), None);
        assert_eq!(Version::of_hex(u64::MAX), None);
        assert_eq!(Version::of_text("3.6.15"), Some(Version { minor: 6, micro: 15 }));
        assert_eq!(Version::of_text("3.10.0rc1+"), Some(Version { minor: 10, micro: 0 }));
        for bad in ["2.7.18", "3.", "3.x.1", "3.6", "3.999.1", ""] {
            assert_eq!(Version::of_text(bad), None, "{bad}");
        }
    }

    #[test]
    fn other_texts_are_no_versions() {
        assert!(is_version("3.6.15") && is_version("4.0.0"));
        for bad in ["%.80s (%.80s) %.80s", "3", "3.6", "", "33.6.1", "3.6.1 (default)"] {
            assert!(!is_version(bad), "{bad}");
        }
    }
}
