//! The file behind a mapping: opened through its process, also when its path leads elsewhere by now.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use crate::mapping::{FileKey, path_of};

/// `statfs.f_type` (include/uapi/linux/magic.h).
const OVERLAYFS_MAGIC: u32 = 0x794c_7630;
const BTRFS_MAGIC: u32 = 0x9123_683e;
/// Processes whose root is tried when the one that maps a file has gone.
pub(crate) const RELATIVES_MAX: usize = 8;

/// A mapping of a file, and who may show the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) pid: u32,
    pub(crate) start: u64,
    /// Exclusive.
    pub(crate) end: u64,
    /// As the process sees it.
    pub(crate) path: &'a str,
    pub(crate) inode: FileKey,
    /// Processes that probably have the same root, should this one be gone.
    pub(crate) relatives: &'a [u32],
}

/// Through `map_files` a deleted file opens too, in whatever mount namespace it was; it wants
/// CAP_CHECKPOINT_RESTORE. Otherwise by path in the process's own root, or in a relative's. The path may lead
/// elsewhere by now, or through a link of the container's, and the range may hold another file: the inode tells.
pub(super) fn open_mapped(source: &Source<'_>) -> io::Result<File> {
    let Source { pid, start, end, path, inode, relatives } = *source;
    let map_file = format!("/proc/{pid}/map_files/{start:x}-{end:x}");
    // Overlay file systems give a file that was copied up another inode than the one that is mapped; the range may
    // show another file by now.
    let is_mapped = |file: &File, metadata: &Metadata| {
        is_it(file, metadata, inode) || (is_overlay(file) && leads_to(&map_file, path))
    };
    open_regular(&map_file, is_mapped)
        .or_else(|_| open_regular(&format!("/proc/{pid}/root{path}"), |file, it| is_it(file, it, inode)))
        .or_else(|error| open_in_roots(relatives, path, inode).unwrap_or(Err(error)))
}

/// By path in the roots of processes that probably have that of the one that maps it; `None` without any.
pub(super) fn open_in_roots(pids: &[u32], path: &str, inode: FileKey) -> Option<io::Result<File>> {
    let mut opened = None;
    for pid in pids.iter().take(RELATIVES_MAX) {
        if matches!(opened, Some(Ok(_))) {
            break;
        }
        opened = Some(open_regular(&format!("/proc/{pid}/root{path}"), |file, it| is_it(file, it, inode)));
    }
    opened
}

/// Looks before it opens: a fifo, device or directory in the file's place is never opened at all.
fn open_regular(path: &str, is_wanted: impl Fn(&File, &Metadata) -> bool) -> io::Result<File> {
    let found = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(path)?;
    let metadata = found.metadata()?;
    if !metadata.file_type().is_file() || !is_wanted(&found, &metadata) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{path} is not the file that is mapped"),
        ));
    }
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let reopened = format!("/proc/self/fd/{}", found.as_raw_fd());
    OpenOptions::new().read(true).custom_flags(flags).open(reopened)
}

fn is_it(file: &File, metadata: &Metadata, inode: FileKey) -> bool {
    metadata.ino() == inode.inode && (is_on_device(metadata, inode) || is_overlay(file) || is_btrfs(file))
}

/// Whether a link of the kernel's leads to a path, which a process with another root may see the end of.
fn leads_to(link: &str, path: &str) -> bool {
    let target = std::fs::read_link(link).ok();
    let there = target.as_ref().and_then(|target| target.to_str()).map(path_of);
    there.is_some_and(|there| there.ends_with(path_of(path)))
}

fn is_on_device(metadata: &Metadata, inode: FileKey) -> bool {
    let device = metadata.dev();
    (libc::major(device), libc::minor(device)) == (inode.major, inode.minor)
}

/// stat gives an overlay's own device where the mapping has that of the layer below.
fn is_overlay(file: &File) -> bool {
    file_system(file) == Some(OVERLAYFS_MAGIC)
}

/// stat gives a subvolume's device where the mapping has the whole file system's.
pub(super) fn is_btrfs(file: &File) -> bool {
    file_system(file) == Some(BTRFS_MAGIC)
}

fn file_system(file: &File) -> Option<u32> {
    let mut facts = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: an open descriptor and room for the answer.
    let got = unsafe { libc::fstatfs(file.as_raw_fd(), facts.as_mut_ptr()) };
    // SAFETY: the kernel filled it.
    (got == 0).then(|| unsafe { facts.assume_init() }.f_type as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping;

    const NOBODY: u32 = u32::MAX - 1;

    fn own_mapping() -> (mapping::Mapping, String, FileKey) {
        mapping::own(own_mapping as *const () as u64)
    }

    #[test]
    fn a_fifo_in_the_place_of_a_file_is_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lib.so");
        let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: a NUL-terminated path.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        assert!(open_regular(path.to_str().unwrap(), |_, _| true).is_err());
    }

    #[test]
    fn the_file_of_a_dead_process_is_found_through_a_relative_with_the_same_root() {
        let (own, path, inode) = own_mapping();
        let source =
            Source { pid: NOBODY, start: own.start, end: own.end, path: &path, inode, relatives: &[] };
        assert!(open_mapped(&source).is_err());
        let relatives = [NOBODY, std::process::id()];
        let opened = open_mapped(&Source { relatives: &relatives, ..source }).unwrap();
        assert_eq!(opened.metadata().unwrap().ino(), inode.inode);
        let elsewhere = FileKey { major: inode.major + 1, ..inode };
        if !is_overlay(&opened) && !is_btrfs(&opened) {
            assert!(open_mapped(&Source { relatives: &relatives, inode: elsewhere, ..source }).is_err());
        }
    }

    #[test]
    fn a_path_that_leads_to_another_file_by_now_is_refused() {
        let (own, path, inode) = own_mapping();
        let pid = std::process::id();
        // No such range: only the path is left.
        let source = Source { pid, start: own.start + 1, end: own.end, path: &path, inode, relatives: &[] };
        assert!(open_mapped(&source).is_ok());
        let other = FileKey { inode: inode.inode + 1, ..inode };
        assert!(open_mapped(&Source { inode: other, ..source }).is_err());
        let range = Source { start: own.start, inode: other, ..source };
        let file = File::open("/proc/self/exe").unwrap();
        assert!(is_overlay(&file) || open_mapped(&range).is_err(), "the range holds another file");
    }

    /// An overlay over a file system in memory; unmounted when it is dropped.
    struct Overlay(tempfile::TempDir);

    impl Overlay {
        fn mount() -> io::Result<Self> {
            let folder = tempfile::tempdir()?;
            let at = folder.path().to_owned();
            mount("tmpfs", &at, "")?;
            let overlay = Self(folder);
            let names = ["lower", "upper", "work", "merged"].map(|name| at.join(name));
            names.iter().try_for_each(std::fs::create_dir)?;
            let [lower, upper, work, merged] = names;
            let (lower, upper, work) = (lower.display(), upper.display(), work.display());
            mount("overlay", &merged, &format!("lowerdir={lower},upperdir={upper},workdir={work}"))?;
            Ok(overlay)
        }

        fn path(&self, name: &str) -> String {
            self.0.path().join("merged").join(name).to_str().unwrap().to_owned()
        }
    }

    impl Drop for Overlay {
        fn drop(&mut self) {
            for path in [self.0.path().join("merged"), self.0.path().to_owned()] {
                let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
                // SAFETY: a NUL-terminated path; one that is no mount point gives an error.
                unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
            }
        }
    }

    fn mount(kind: &str, at: &std::path::Path, options: &str) -> io::Result<()> {
        let [kind, at, options] =
            [kind, at.to_str().unwrap(), options].map(|text| std::ffi::CString::new(text).unwrap());
        // SAFETY: NUL-terminated texts.
        let mounted =
            unsafe { libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()) };
        if mounted == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Maps a file's first pages as code, at an address or anywhere, and gives where.
    fn map(path: &str, at: *mut libc::c_void) -> *mut libc::c_void {
        let file = File::open(path).unwrap();
        let flags = libc::MAP_PRIVATE | if at.is_null() { 0 } else { libc::MAP_FIXED };
        let protection = libc::PROT_READ | libc::PROT_EXEC;
        // SAFETY: a new mapping, or one in the place of this test's own.
        let got = unsafe { libc::mmap(at, 0x4000, protection, flags, file.as_raw_fd(), 0) };
        assert_ne!(got, libc::MAP_FAILED);
        got
    }

    #[test]
    fn another_file_that_took_a_range_on_an_overlay_is_not_taken_for_the_one_before() {
        let overlay = match Overlay::mount() {
            Ok(overlay) => overlay,
            Err(error) => {
                println!("skipped: no overlay can be mounted here: {error}");
                return;
            }
        };
        let (one, other) = (overlay.path("one"), overlay.path("other"));
        std::fs::copy("/proc/self/exe", &one).unwrap();
        std::fs::copy("/bin/true", &other).unwrap();
        let at = map(&one, std::ptr::null_mut());
        let (found, path, inode) = mapping::own(at as u64);
        let (pid, start, end) = (std::process::id(), found.start, found.end);
        let source = Source { pid, start, end, path: &path, inode, relatives: &[] };
        let bytes = |path: &str| std::fs::metadata(path).unwrap().len();
        assert_eq!(open_mapped(&source).unwrap().metadata().unwrap().len(), bytes(&one));
        map(&other, at);
        assert_eq!(open_mapped(&source).unwrap().metadata().unwrap().len(), bytes(&one));
        // SAFETY: this test's own mapping.
        unsafe { libc::munmap(at, 0x4000) };
    }

    #[test]
    fn a_container_file_whose_path_leads_nowhere_here_opens_by_its_range() {
        let (own, _, inode) = own_mapping();
        let path = "/no/such/folder/of/this/mount/namespace";
        let source =
            Source { pid: std::process::id(), start: own.start, end: own.end, path, inode, relatives: &[] };
        match open_mapped(&source) {
            Ok(file) => assert_eq!(file.metadata().unwrap().ino(), inode.inode),
            Err(error) => println!("skipped: map_files is closed here: {error}"),
        }
    }
}
