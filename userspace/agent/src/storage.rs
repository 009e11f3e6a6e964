//! The directory of the embedded store: the configured one, or one that can be written.

use crate::config::Storage;
use anyhow::{Context, bail};
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Gives the directory to use; the default one gives way to a temporary one when it cannot be written.
///
/// # Errors
/// A directory that is configured, or all that could take the default's place, cannot be written.
pub(crate) fn directory(storage: &Storage) -> anyhow::Result<PathBuf> {
    // SAFETY: geteuid takes nothing and cannot fail.
    let user = unsafe { libc::geteuid() };
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    // On disk and kept over a restart of the machine, before what may be memory.
    let places = [Some(PathBuf::from("/var/tmp")), runtime, Some(std::env::temp_dir())];
    directory_or_below(storage, places.into_iter().flatten(), user)
}

/// The configured directory, or one of this user's below the first of `places` that takes it.
fn directory_or_below(
    storage: &Storage,
    places: impl Iterator<Item = PathBuf>,
    user: u32,
) -> anyhow::Result<PathBuf> {
    let Err(error) = make_writable(&storage.path) else { return Ok(storage.path.clone()) };
    if storage.path_is_configured {
        return Err(error.context("setting `storage.path`"));
    }
    let found =
        places.map(|place| place.join(format!("kovar-{user}"))).find(|path| make_private(path, user).is_ok());
    let path = found.with_context(|| format!("no directory for profiles: {error:#}; set `storage.path`"))?;
    tracing::warn!(
        path = %path.display(),
        "profiles are kept in a temporary directory, which may not last: {error:#}; set `storage.path`"
    );
    Ok(path)
}

/// Makes the directory if need be, and a file in it.
///
/// # Errors
/// The system's, naming the directory.
pub(crate) fn make_writable(path: &Path) -> anyhow::Result<()> {
    let error = || format!("{} cannot be written", path.display());
    fs::DirBuilder::new().recursive(true).mode(0o750).create(path).with_context(error)?;
    let probe = path.join(format!(".writable-{}", std::process::id()));
    fs::write(&probe, b"").with_context(error)?;
    fs::remove_file(&probe).with_context(error)
}

/// Whether [`make_writable`] would succeed; leaves nothing behind.
///
/// # Errors
/// The system's, naming the directory.
pub(crate) fn check_writable(path: &Path) -> anyhow::Result<()> {
    let made: Vec<&Path> = path.ancestors().take_while(|it| !it.exists()).collect();
    let checked = make_writable(path);
    for directory in made {
        // Only what is empty can be removed, so nothing of anybody else's is lost.
        let _in_use = fs::remove_dir(directory);
    }
    checked
}

/// Makes a directory only this user can enter; in `/tmp` another user may have put something in its place.
fn make_private(path: &Path, user: u32) -> anyhow::Result<()> {
    if let Err(error) = fs::DirBuilder::new().mode(0o700).create(path)
        && error.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(error.into());
    }
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() || metadata.uid() != user || metadata.permissions().mode() & 0o077 != 0 {
        bail!("{} belongs to somebody else", path.display());
    }
    make_writable(path)
}

#[cfg(test)]
mod tests {
    use super::{check_writable, directory, directory_or_below, make_private};
    use crate::config::Storage;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::PathBuf;

    fn storage(path: PathBuf, path_is_configured: bool) -> Storage {
        Storage { path, path_is_configured, bytes_max: 1 << 30, age_max_s: 3600 }
    }

    #[test]
    fn a_configured_directory_must_be_writable_and_is_named() {
        let base = tempfile::tempdir().expect("a directory");
        let file = base.path().join("file");
        std::fs::write(&file, "x").expect("write");
        let error = directory(&storage(file.join("below"), true)).expect_err("a file is no directory");
        let text = format!("{error:#}");
        assert!(text.contains("`storage.path`") && text.contains("file/below"), "{text}");
        let good = base.path().join("a/b");
        assert_eq!(directory(&storage(good.clone(), true)).expect("made"), good);
    }

    #[test]
    fn the_default_gives_way_to_a_directory_that_can_be_written() {
        let base = tempfile::tempdir().expect("a directory");
        let user = std::fs::metadata(base.path()).expect("metadata").uid();
        let places = [PathBuf::from("/proc"), base.path().to_owned()];
        let path =
            directory_or_below(&storage(PathBuf::from("/proc/kovar"), false), places.into_iter(), user);
        assert_eq!(path.expect("another directory"), base.path().join(format!("kovar-{user}")));
    }

    #[test]
    fn a_check_leaves_nothing_behind() {
        let base = tempfile::tempdir().expect("a directory");
        check_writable(&base.path().join("a/b")).expect("writable");
        assert!(!base.path().join("a").exists());
        std::fs::create_dir(base.path().join("c")).expect("create");
        check_writable(&base.path().join("c")).expect("writable");
        assert!(base.path().join("c").exists());
    }

    #[test]
    fn a_link_or_an_open_directory_is_not_taken() {
        let base = tempfile::tempdir().expect("a directory");
        let user = std::fs::metadata(base.path()).expect("metadata").uid();
        let link = base.path().join("link");
        symlink("/", &link).expect("link");
        assert!(make_private(&link, user).is_err());
        let open = base.path().join("open");
        std::fs::create_dir(&open).expect("create");
        std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
        assert!(make_private(&open, user).is_err());
        assert!(make_private(&base.path().join("new"), user).is_ok());
    }
}
