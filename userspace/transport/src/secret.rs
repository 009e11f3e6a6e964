//! A value that is never printed.

use std::fmt;
use std::path::Path;

use serde::{Serialize, Serializer};

use crate::{Error, file};

const HIDDEN: &str = "***";

/// A password, token or key. Debug, Display and Serialize print `***`; only
/// [`expose`](Self::expose) gives the value.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the value as it is.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// Reads the value from a file, without the line ends that editors leave behind it.
    ///
    /// # Errors
    /// [`Error::Config`] naming the file, when it is missing, unreadable, not a regular file, empty,
    /// not UTF-8, or larger than [`crate::SECRET_FILE_BYTES_MAX`].
    pub fn from_file(setting: &str, path: &Path) -> Result<Self, Error> {
        file::read_secret(path).map_err(|problem| Error::config(setting, problem))
    }

    /// The value itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self(value.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_way_of_printing_shows_the_value() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?} {secret:#?}"), "*** *** ***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn a_file_is_read_without_its_last_line_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        for content in ["s3cret", "s3cret\n", "s3cret\r\n"] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(Secret::from_file("token_file", &path).unwrap().expose(), "s3cret");
        }
    }
}
