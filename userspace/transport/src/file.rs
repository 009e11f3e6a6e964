//! Small files that a configuration names, read with a cap on their size.

use std::fs::{File, Metadata};
use std::io::Read;
use std::path::Path;

use crate::Secret;

/// Largest file that a secret is read from.
pub const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;
/// Largest file that certificates or keys are read from; a whole system's CA bundle has a quarter of it.
pub const PEM_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads a regular file of at most `bytes_max`. The error is a sentence that names the file.
pub(crate) fn read(path: &Path, bytes_max: u64) -> Result<(Metadata, Vec<u8>), String> {
    let shown = path.display();
    // Looked at before opening: opening a fifo would wait for a writer.
    let metadata = std::fs::metadata(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    if !metadata.is_file() {
        return Err(format!("{shown} is not a regular file"));
    }
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(bytes_max + 1).read_to_end(&mut content))
        .map_err(|error| format!("cannot read {shown}: {error}"))?;
    if content.len() as u64 > bytes_max {
        return Err(format!("{shown} is larger than the {bytes_max} bytes that are read of it"));
    }
    Ok((metadata, content))
}

pub(crate) fn read_secret(path: &Path) -> Result<Secret, String> {
    let (_, content) = read(path, SECRET_FILE_BYTES_MAX)?;
    secret_in(path, content)
}

pub(crate) fn secret_in(path: &Path, content: Vec<u8>) -> Result<Secret, String> {
    let shown = path.display();
    let text = String::from_utf8(content).map_err(|error| format!("{shown} is not UTF-8 text: {error}"))?;
    let value = text.trim_end_matches(['\n', '\r']);
    if value.is_empty() {
        return Err(format!("{shown} is empty"));
    }
    if value.contains(['\n', '\r', '\0']) {
        return Err(format!("{shown} holds more than one line"));
    }
    Ok(Secret::new(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bad_file_is_named_in_its_error() {
        let dir = tempfile::tempdir().unwrap();
        let cases: [(&str, Option<&[u8]>, &str); 4] = [
            ("missing", None, "No such file"),
            ("empty", Some(b"\n"), "is empty"),
            ("binary", Some(b"\xff\xfe"), "not UTF-8"),
            ("lines", Some(b"a\nb\n"), "more than one line"),
        ];
        for (name, content, problem) in cases {
            let path = dir.path().join(name);
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            let error = read_secret(&path).unwrap_err();
            assert!(error.contains(problem) && error.contains(path.to_str().unwrap()), "{error}");
        }
        assert!(read_secret(dir.path()).unwrap_err().contains("not a regular file"));
    }

    #[test]
    fn a_file_of_exactly_the_limit_is_read_and_one_byte_more_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, vec![b'x'; 100]).unwrap();
        assert_eq!(read(&path, 100).unwrap().1.len(), 100);
        assert!(read(&path, 99).unwrap_err().contains("99 bytes"));
    }
}
