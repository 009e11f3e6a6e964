//! Processes that run in a cgroup now: in a container they probably have the same root.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::executable::RELATIVES_MAX;
use crate::host;

/// Bytes of a cgroup's list of processes that are read.
const PROCS_BYTES_MAX: u64 = 4096;
/// Bytes of a list of mounts that are read.
const MOUNTS_BYTES_MAX: u64 = 4 << 20;
/// Mounts of the hierarchy that are tried.
const MOUNTS_MAX: usize = 8;

/// Where cgroups are looked up.
#[derive(Debug, Default)]
pub(crate) struct Mates {
    /// Directories that may show the hierarchy's root; looked for when the first is needed.
    mounts: OnceCell<Vec<PathBuf>>,
}

impl Mates {
    /// Some processes of a cgroup, by its id and its path from the hierarchy's root. None without a mount that
    /// shows it: here, or in the mount namespace of process 1.
    pub(crate) fn of(&self, cgroup_id: u64, path: &str) -> Vec<u32> {
        let mounts = self.mounts.get_or_init(|| mounts(host::cgroup_hierarchy()));
        let directories = mounts.iter().map(|mount| mount.join(path.trim_start_matches('/')));
        // A cgroup namespace shows another cgroup under that path. The id is the inode number of kernfs.
        let is_it = |directory: &PathBuf| fs::metadata(directory).is_ok_and(|it| it.ino() == cgroup_id);
        let read = |directory: PathBuf| read_up_to(&directory.join("cgroup.procs"), PROCS_BYTES_MAX);
        directories.into_iter().find(is_it).and_then(read).map_or_else(Vec::new, |text| pids(&text))
    }
}

/// A process that is out of sight is 0, and the last line may be cut.
fn pids(text: &str) -> Vec<u32> {
    let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
    complete
        .lines()
        .filter_map(|line| line.parse().ok())
        .filter(|pid| *pid != 0)
        .take(RELATIVES_MAX)
        .collect()
}

fn mounts(hierarchy: u32) -> Vec<PathBuf> {
    let of = |process: &str, root: &str| {
        let text = read_up_to(Path::new(&format!("/proc/{process}/mountinfo")), MOUNTS_BYTES_MAX);
        let found = mount_points(&text.unwrap_or_default(), hierarchy);
        found.into_iter().map(|point| PathBuf::from(format!("{root}{point}"))).collect::<Vec<_>>()
    };
    [of("self", ""), of("1", "/proc/1/root")].concat()
}

/// `36 35 98:0 /root /point rw,noatime master:1 - cgroup2 cgroup2 rw` (proc_pid_mountinfo(5)).
fn mount_points(mountinfo: &str, hierarchy: u32) -> Vec<String> {
    let is_hierarchy = |kind: &str, options: &str| match kind {
        "cgroup2" => hierarchy == abi::CGROUP_V2,
        "cgroup" => {
            hierarchy == abi::CGROUP_PERF_EVENT && options.split(',').any(|option| option == "perf_event")
        }
        _ => false,
    };
    let point = |line: &str| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut words = file_system.split(' ');
        let (kind, _source, options) = (words.next()?, words.next()?, words.next()?);
        is_hierarchy(kind, options).then(|| mount.split(' ').nth(4).map(str::to_owned))?
    };
    mountinfo.lines().filter_map(point).take(MOUNTS_MAX).collect()
}

fn read_up_to(path: &Path, bytes_max: u64) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(bytes_max).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cgroup's directory in a hierarchy, with its id.
    fn cgroup(hierarchy: &Path, path: &str, procs: &str) -> u64 {
        let directory = hierarchy.join(path);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("cgroup.procs"), procs).unwrap();
        fs::metadata(directory).unwrap().ino()
    }

    fn looked_up_in(mounts: &[&Path]) -> Mates {
        Mates { mounts: OnceCell::from(mounts.iter().map(|mount| mount.to_path_buf()).collect::<Vec<_>>()) }
    }

    #[test]
    fn a_mount_that_shows_another_cgroup_under_the_path_is_passed_over() {
        let (part, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let other = cgroup(part.path(), "docker/c", "7\n");
        let id = cgroup(whole.path(), "docker/c", "8\n9\n");
        let mates = looked_up_in(&[part.path(), whole.path()]);
        assert_eq!((mates.of(id, "/docker/c"), mates.of(other, "/docker/c")), (vec![8, 9], vec![7]));
        assert!(mates.of(id + other, "/docker/c").is_empty() && mates.of(id, "/docker/gone").is_empty());
    }

    #[test]
    fn processes_out_of_sight_are_left_out_and_few_are_taken() {
        assert_eq!(pids("0\n12\n0\n3\n45"), [12, 3], "the last may be cut");
        let many: String = (1..1000).map(|pid| format!("{pid}\n")).collect();
        assert_eq!(pids(&many), (1..=RELATIVES_MAX as u32).collect::<Vec<_>>());
        assert!(pids("").is_empty() && pids("no\n").is_empty());
    }

    #[test]
    fn mounts_of_the_hierarchy_that_names_containers_are_found_among_all_others() {
        let text = "\
30 24 0:26 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:10 master:3 - cgroup2 cgroup2 rw,nsdelegate
32 30 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 /docker/x /sys/fs/cgroup/perf_event rw - cgroup cgroup rw,perf_event
broken line - cgroup2
";
        assert_eq!(mount_points(text, abi::CGROUP_V2), ["/sys/fs/cgroup/unified"]);
        assert_eq!(mount_points(text, abi::CGROUP_PERF_EVENT), ["/sys/fs/cgroup/perf_event"]);
        assert!(mount_points(text, abi::CGROUP_NONE).is_empty());
    }
}
