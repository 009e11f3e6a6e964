//! A memory cgroup of a profiler's own, by whichever version of cgroups this machine has.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const MIB: u64 = 1024 * 1024;
/// How long a group may stay busy after its last process has ended.
const REMOVE_LIMIT: Duration = Duration::from_secs(10);
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// What is charged to a group at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Charge {
    pub(super) anonymous_bytes: u64,
    /// Slab, percpu, vmalloc, page tables, kernel stacks, BPF maps.
    pub(super) kernel_bytes: u64,
    /// Of files: the kernel takes it back when it is needed.
    pub(super) file_bytes: u64,
}

impl Charge {
    /// What cannot be taken back.
    pub(super) fn resident_bytes(&self) -> u64 {
        self.anonymous_bytes + self.kernel_bytes
    }

    pub(super) fn describe(&self) -> String {
        let Self { anonymous_bytes, kernel_bytes, file_bytes } = self;
        format!(
            "{} MiB anonymous, {} kernel, {} files",
            anonymous_bytes / MIB,
            kernel_bytes / MIB,
            file_bytes / MIB
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// The memory controller in a hierarchy of its own.
    V1,
    V2,
}

/// Removed when it is dropped; what is in it must have ended.
#[derive(Debug)]
pub(super) struct Group {
    path: PathBuf,
    version: Version,
}

impl Group {
    /// # Errors
    /// When this machine has no memory controller that can be used.
    pub(super) fn create(name: &str) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("the mounts")?;
        let has_memory = |root: &str| {
            let controllers = fs::read_to_string(format!("{root}/cgroup.controllers"));
            controllers.is_ok_and(|it| it.split_whitespace().any(|it| it == "memory"))
        };
        let Some((root, version)) = memory_root(&mounts, has_memory) else {
            bail!("no memory controller is mounted");
        };
        if version == Version::V2 {
            let control = format!("{root}/cgroup.subtree_control");
            fs::write(&control, "+memory").with_context(|| control.clone())?;
        }
        let path = Path::new(&root).join(format!("kovar-bench-{}-{name}", std::process::id()));
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self { path, version })
    }

    /// Has the command's process enter the group before it becomes the program.
    pub(super) fn enter(&self, command: &mut Command) {
        let procs = self.path.join("cgroup.procs");
        // The child writes "0", itself. Paths of a group are made before the fork.
        let Ok(procs) = std::ffi::CString::new(procs.as_os_str().as_encoded_bytes()) else { return };
        let enter = move || {
            // SAFETY: the path is NUL-terminated, the text is one byte long, and the calls are async-signal-safe.
            let is_in = unsafe {
                let fd = libc::open(procs.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
                fd >= 0 && libc::write(fd, c"0".as_ptr().cast(), 1) == 1 && libc::close(fd) == 0
            };
            if is_in { Ok(()) } else { Err(io::Error::last_os_error()) }
        };
        // SAFETY: the closure allocates nothing and makes only system calls.
        unsafe { command.pre_exec(enter) };
    }

    pub(super) fn charge(&self) -> Result<Charge> {
        let read = |file: &str| {
            let path = self.path.join(file);
            fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        let stat = read("memory.stat")?;
        match self.version {
            Version::V1 => charge_v1(&stat, &read("memory.kmem.usage_in_bytes")?),
            Version::V2 => charge_v2(&stat),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let deadline = Instant::now() + REMOVE_LIMIT;
        while let Err(error) = fs::remove_dir(&self.path) {
            if Instant::now() > deadline {
                eprintln!("cannot remove {}: {error}", self.path.display());
                return;
            }
            thread::sleep(RETRY_INTERVAL);
        }
    }
}

/// Where the memory controller is mounted. A v1 hierarchy of its own goes first: beside it, v2 lacks the controller.
fn memory_root(mountinfo: &str, has_memory: impl Fn(&str) -> bool) -> Option<(String, Version)> {
    let mut v2 = None;
    for line in mountinfo.lines() {
        // `... ROOT MOUNT_POINT OPTIONS [FIELDS] - TYPE SOURCE SUPER_OPTIONS`
        let (left, right) = line.split_once(" - ")?;
        let point = left.split(' ').nth(4)?;
        let mut right = right.split(' ');
        match (right.next()?, right.nth(1)) {
            ("cgroup", Some(options)) if options.split(',').any(|it| it == "memory") => {
                return Some((point.to_owned(), Version::V1));
            }
            ("cgroup2", _) if has_memory(point) => v2 = Some((point.to_owned(), Version::V2)),
            _ => {}
        }
    }
    v2
}

fn charge_v1(stat: &str, kernel: &str) -> Result<Charge> {
    Ok(Charge {
        anonymous_bytes: value(stat, "total_rss")?,
        kernel_bytes: kernel.trim().parse().context("memory.kmem.usage_in_bytes")?,
        file_bytes: value(stat, "total_cache")?,
    })
}

fn charge_v2(stat: &str) -> Result<Charge> {
    Ok(Charge {
        anonymous_bytes: value(stat, "anon")?,
        kernel_bytes: value(stat, "kernel")?,
        file_bytes: value(stat, "file")?,
    })
}

fn value(stat: &str, key: &str) -> Result<u64> {
    let value = stat.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).with_context(|| format!("memory.stat has no {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Server;
    use crate::setup;

    const V1: &str = "30 25 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
        31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
    const V2: &str = "32 25 0:28 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_controllers_own_hierarchy_goes_before_the_unified_one() {
        let found = |mounts: &str, has_memory: bool| memory_root(mounts, |_| has_memory);
        let v1 = Some(("/sys/fs/cgroup/memory".to_owned(), Version::V1));
        assert_eq!(found(&format!("{V2}{V1}"), false), v1);
        let v2 = Some(("/sys/fs/cgroup/unified".to_owned(), Version::V2));
        assert_eq!(found(V2, true), v2);
        assert_eq!(found(V2, false), None);
    }

    #[test]
    fn both_versions_tell_anonymous_kernel_and_file_memory_apart() {
        let wanted = Charge { anonymous_bytes: 10, kernel_bytes: 20, file_bytes: 30 };
        let v2 = "anon 10\nfile 30\nkernel 20\nkernel_stack 5\nfile_mapped 7\n";
        assert_eq!(charge_v2(v2).unwrap(), wanted);
        let v1 = "cache 1\nrss 2\ntotal_cache 30\ntotal_rss 10\ntotal_rss_huge 9\n";
        assert_eq!(charge_v1(v1, "20\n").unwrap(), wanted);
        assert!(charge_v2("file 30\n").unwrap_err().to_string().contains("anon"));
    }

    #[test]
    fn what_a_command_takes_is_charged_to_its_group() {
        if !setup::is_root() {
            println!("skipped: a cgroup needs root");
            return;
        }
        let Ok(group) = Group::create("test") else {
            println!("skipped: no memory controller");
            return;
        };
        let mut command = Command::new("sh");
        // It holds its memory while it reads from a pipe that says nothing.
        let (reader, _writer) = io::pipe().unwrap();
        let (told, telling) = io::pipe().unwrap();
        command.args(["-c", "x=$(head -c 20000000 /dev/zero | tr '\\0' x); echo $$; read y"]);
        command.stdin(reader).stdout(telling);
        group.enter(&mut command);
        let server = Server::start(&mut command).unwrap();
        drop(command);
        let mut line = String::new();
        io::BufRead::read_line(&mut io::BufReader::new(told), &mut line).unwrap();
        assert_eq!(line.trim(), server.pid().to_string());
        let charge = group.charge().unwrap();
        assert!(charge.anonymous_bytes > 20_000_000, "{charge:?}");
        assert!(charge.kernel_bytes > 0, "{charge:?}");
        drop(server);
        let path = group.path.clone();
        drop(group);
        assert!(!path.exists());
    }
}
