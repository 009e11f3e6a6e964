//! A secret that is given as a value or as a file which may change while we run.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::file::{SECRET_FILE_BYTES_MAX, read, secret_in};
use crate::{Error, Secret};

/// Where a password or token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// The configuration holds it.
    Value(Secret),
    /// A file holds it; read again whenever the file has changed, as service account tokens do.
    File(PathBuf),
}

/// A credential in use.
#[derive(Debug)]
pub(crate) enum Live {
    Value(Secret),
    File(Arc<WatchedFile>),
}

/// A secret's file and what it held when it was last read.
#[derive(Debug)]
pub(crate) struct WatchedFile {
    path: PathBuf,
    last: Mutex<(Stamp, Secret)>,
}

/// What changes when a file is rewritten, or another is put in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size_bytes: u64,
    changed_s: i64,
    changed_ns: i64,
}

impl Live {
    /// Reads the file once, so that a wrong path is a configuration error at start.
    pub(crate) fn new(setting: &str, credential: Credential) -> Result<Self, Error> {
        match credential {
            Credential::Value(secret) => Ok(Live::Value(secret)),
            Credential::File(path) => {
                let last = read_with_stamp(&path).map_err(|p| Error::config(format!("{setting}_file"), p))?;
                Ok(Live::File(Arc::new(WatchedFile { path, last: Mutex::new(last) })))
            }
        }
    }

    /// The value now. The error is a sentence that names the file.
    pub(crate) async fn current(&self) -> Result<Secret, String> {
        match self {
            Live::Value(secret) => Ok(secret.clone()),
            Live::File(file) => {
                let file = Arc::clone(file);
                // The file may be on a slow or dead network mount.
                tokio::task::spawn_blocking(move || file.current())
                    .await
                    .map_err(|error| format!("reading was interrupted: {error}"))?
            }
        }
    }
}

impl WatchedFile {
    fn current(&self) -> Result<Secret, String> {
        let metadata = std::fs::metadata(&self.path)
            .map_err(|error| format!("cannot read {}: {error}", self.path.display()))?;
        {
            let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.0 == Stamp::of(&metadata) {
                return Ok(last.1.clone());
            }
        }
        let fresh = read_with_stamp(&self.path)?;
        let secret = fresh.1.clone();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(secret)
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size_bytes: metadata.size(),
            changed_s: metadata.ctime(),
            changed_ns: metadata.ctime_nsec(),
        }
    }
}

fn read_with_stamp(path: &Path) -> Result<(Stamp, Secret), String> {
    let (metadata, content) = read(path, SECRET_FILE_BYTES_MAX)?;
    Ok((Stamp::of(&metadata), secret_in(path, content)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_replaced_file_gives_the_new_value() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "one").unwrap();
        let live = Live::new("bearer_token", Credential::File(path.clone())).unwrap();
        assert_eq!(live.current().await.unwrap().expose(), "one");

        let next = dir.path().join("next");
        std::fs::write(&next, "two").unwrap();
        std::fs::rename(&next, &path).unwrap();
        assert_eq!(live.current().await.unwrap().expose(), "two");

        std::fs::remove_file(&path).unwrap();
        assert!(live.current().await.unwrap_err().contains("token"));
    }

    #[test]
    fn a_missing_file_is_a_configuration_error_at_start() {
        let error =
            Live::new("auth.bearer_token", Credential::File("/nonexistent/token".into())).unwrap_err();
        let Error::Config { setting, problem } = error else { panic!("{error}") };
        assert_eq!(setting, "auth.bearer_token_file");
        assert!(problem.contains("/nonexistent/token"), "{problem}");
    }
}
