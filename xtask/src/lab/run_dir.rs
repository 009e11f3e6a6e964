//! The folder of one running server: its data, configuration and log, named by the PID that started it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{process, workspace};

/// Holds the server's PID, so that a later run knows whether the folder is still in use.
const PID_FILE: &str = "server.pid";
const LOG_TAIL_BYTES: usize = 4096;

/// Removed with everything in it when it is dropped, unless it was left for a server that goes on.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    keep: bool,
}

impl RunDir {
    /// Makes this process's folder and removes those of processes that ended without doing so.
    pub(crate) fn create(name: &str) -> Result<Self> {
        let all = workspace::lab().join("run");
        remove_stale(&all);
        let path = all.join(std::process::id().to_string()).join(name);
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self { path, keep: false })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn set_server(&self, pid: u32) -> Result<()> {
        let file = self.path.join(PID_FILE);
        fs::write(&file, pid.to_string()).with_context(|| file.display().to_string())
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.path.join("log")
    }

    pub(crate) fn log(&self) -> Result<File> {
        let path = self.log_path();
        File::create(&path).with_context(|| path.display().to_string())
    }

    /// The end of the server's log, for the error that says why it is not there.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read(self.log_path()).unwrap_or_default();
        let tail = &log[log.len().saturating_sub(LOG_TAIL_BYTES)..];
        format!("the end of its log:\n{}\n", String::from_utf8_lossy(tail).trim())
    }

    pub(crate) fn keep(mut self) {
        self.keep = true;
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        remove(&self.path);
        if let Some(parent) = self.path.parent()
            && fs::read_dir(parent).is_ok_and(|mut entries| entries.next().is_none())
        {
            remove(parent);
        }
    }
}

fn remove_stale(all: &Path) {
    for owner in fs::read_dir(all).into_iter().flatten().flatten() {
        let owner_pid = owner.file_name().to_string_lossy().parse::<u32>();
        let is_owned = owner_pid.is_ok_and(|pid| pid == std::process::id() || process::is_alive(pid));
        let servers: Vec<PathBuf> =
            fs::read_dir(owner.path()).into_iter().flatten().flatten().map(|e| e.path()).collect();
        if !is_owned && !servers.iter().any(|server| is_served(server)) {
            remove(&owner.path());
        }
    }
}

fn is_served(path: &Path) -> bool {
    let pid = fs::read_to_string(path.join(PID_FILE)).ok().and_then(|pid| pid.trim().parse().ok());
    pid.is_some_and(process::is_alive)
}

/// Ends what containerd left running, unmounts what is mounted below, innermost first, then removes the files.
fn remove(path: &Path) {
    end_shims(path);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for mount in mounts_below(&mounts, path).iter().rev() {
        let Ok(target) = std::ffi::CString::new(mount.as_bytes()) else { continue };
        // SAFETY: the pointer is to a NUL-terminated string that outlives the call.
        if unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) } != 0 {
            eprintln!("cannot unmount {mount}: {}", std::io::Error::last_os_error());
        }
    }
    if let Err(error) = fs::remove_dir_all(path) {
        eprintln!("cannot remove {}: {error}", path.display());
    }
}

/// A container's shim outlives its containerd; its command line names the socket, which lies in the folder.
fn end_shims(path: &Path) {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut words = line.split(|&byte| byte == 0).map(String::from_utf8_lossy);
        let is_shim = words.next().is_some_and(|program| program.contains("containerd-shim"));
        if is_shim && words.any(|word| Path::new(word.as_ref()).starts_with(path)) {
            process::kill_tree(pid);
        }
    }
}

/// The mount points below a folder, in the order they were mounted.
fn mounts_below(mountinfo: &str, path: &Path) -> Vec<String> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| Path::new(point).starts_with(path)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_below_the_folder_are_taken() {
        let mountinfo = "22 1 0:20 / /proc rw - proc proc rw\n\
            90 22 0:50 / /t/run/7/rootfs rw - overlay overlay rw\n\
            91 22 0:51 / /t/run/70 rw - tmpfs tmpfs rw\n\
            92 90 0:52 / /t/run/7/rootfs/proc rw - proc proc rw\n";
        assert_eq!(
            mounts_below(mountinfo, Path::new("/t/run/7")),
            ["/t/run/7/rootfs", "/t/run/7/rootfs/proc"]
        );
    }
}
