//! What a container is to the kernel: a cgroup with an id in its path, and a mount namespace of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How long a process that has ended may keep its cgroup.
const REMOVE_LIMIT: Duration = Duration::from_secs(5);
/// Becomes the container: joins the cgroup `$1`, covers the directory `$2` with a file system of its own, copies into it
/// every file of `$3`, and becomes the rest of the arguments.
const ENTER: &str =
    r#"echo $$ > "$1/cgroup.procs" && mount -t tmpfs none "$2" && cp "$3"/* "$2" && shift 3 && exec "$@""#;

/// A cgroup of the v2 hierarchy at `docker/<id>`, removed at the end.
#[derive(Debug)]
pub struct Container {
    path: PathBuf,
    id: String,
}

impl Container {
    /// One whose id begins with this digit, 56 times, and ends with this process's number, so that tests that run beside
    /// these do not meet it; `None` where no v2 hierarchy is mounted.
    ///
    /// # Errors
    /// The cgroup cannot be made.
    pub fn create(digit: char) -> Result<Option<Self>> {
        let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        let Some(root) = roots.into_iter().find(|root| root.join("cgroup.procs").exists()) else {
            return Ok(None);
        };
        let id = format!("{}{:08x}", digit.to_string().repeat(56), std::process::id());
        let path = root.join("docker").join(&id);
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Some(Self { path, id }))
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its cgroup's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves a process into it.
    ///
    /// # Errors
    /// The system's.
    pub fn take(&self, pid: u32) -> Result<()> {
        fs::write(self.path.join("cgroup.procs"), pid.to_string()).with_context(|| format!("process {pid}"))
    }

    /// A command that becomes the container and then `program`, which lies in `inside` once every file of `files` was
    /// copied there; outside, `inside` is and stays an empty directory.
    pub fn command(&self, files: &Path, inside: &Path, program: &Path) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", ENTER, "sh"]);
        command.args([self.path.as_path(), inside, files, program]);
        command
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let until = Instant::now() + REMOVE_LIMIT;
        while fs::remove_dir(&self.path).is_err() && self.path.exists() && Instant::now() < until {
            thread::yield_now();
        }
        // Stays while another test's cgroup is in it.
        if let Some(parent) = self.path.parent() {
            fs::remove_dir(parent).ok();
        }
    }
}
