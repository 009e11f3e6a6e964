//! containerd and runc from Debian, unpacked and started with a root, state and socket of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::run_dir::RunDir;
use super::{BuildLock, Stay, stop};
use crate::archive::Archive;
use crate::process::{self, Server};
use crate::{setup, workspace};

const NAME: &str = "containerd";
const PACKAGES: [&str; 2] = ["containerd/bookworm", "runc/bookworm"];
/// Programs of the host come after ours, so that the lab's runc is the one that is used.
const HOST_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const READY_LIMIT: Duration = Duration::from_secs(60);
const RETRY_INTERVAL: Duration = Duration::from_millis(200);
/// The longest path of a Unix socket, its terminating zero apart.
const SOCKET_MAX_BYTES: usize = 107;

pub(super) fn unpacked() -> Option<PathBuf> {
    let containerd = bin().join("containerd");
    let runc = home().join("usr/sbin/runc");
    (containerd.is_file() && runc.is_file()).then_some(containerd)
}

pub(super) fn run(stay: Stay) -> Result<()> {
    if !setup::is_root() {
        bail!("containerd needs root; start this with sudo -E");
    }
    unpack()?;
    if stay == Stay::UntilToldToStop {
        stop::watch_signals();
    }
    let dir = RunDir::create(NAME)?;
    let socket = dir.path().join("sock");
    if socket.as_os_str().len() > SOCKET_MAX_BYTES {
        bail!("{} is too long for a socket; check out to a shorter path", socket.display());
    }
    let config = dir.path().join("config.toml");
    fs::write(&config, configuration(dir.path(), &socket)).with_context(|| config.display().to_string())?;
    let log = dir.log()?;
    let mut command = Command::new(bin().join("containerd"));
    command.arg("--config").arg(&config).stdin(Stdio::null()).env("PATH", path());
    command.stdout(log.try_clone().context("the log")?).stderr(log);

    let mut server = match stay {
        Stay::UntilToldToStop => Server::start(&mut command)?,
        Stay::LeaveRunning => Server::start_untied(&mut command)?,
    };
    dir.set_server(server.pid())?;
    wait_ready(&mut server, &socket).with_context(|| dir.log_tail())?;
    println!("address={}", socket.display());
    println!("ctr={}", bin().join("ctr").display());
    println!("pid={}", server.pid());
    match stay {
        Stay::UntilToldToStop => {
            let result = stop::wait(&mut server);
            remove_containers(&socket);
            result
        }
        Stay::LeaveRunning => {
            println!("log={}", dir.log_path().display());
            server.detach();
            dir.keep();
            Ok(())
        }
    }
}

fn home() -> PathBuf {
    workspace::lab().join(NAME)
}

fn bin() -> PathBuf {
    home().join("usr/bin")
}

fn path() -> String {
    format!("{0}/usr/bin:{0}/usr/sbin:{HOST_PATH}", home().display())
}

fn unpack() -> Result<()> {
    let _lock = BuildLock::take(NAME)?;
    if unpacked().is_some() {
        return Ok(());
    }
    let archive = Archive::open()?;
    for package in PACKAGES {
        archive.unpack(package, &home())?;
    }
    Ok(())
}

/// `restrict_oom_score_adj`: lowering the score needs CAP_SYS_RESOURCE, and without it runc dies.
fn configuration(dir: &Path, socket: &Path) -> String {
    let dir = dir.display();
    format!(
        "version = 2\nroot = \"{dir}/root\"\nstate = \"{dir}/state\"\n\n[grpc]\naddress = \"{}\"\n\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\nrestrict_oom_score_adj = true\n\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{dir}/opt\"\n",
        socket.display()
    )
}

fn ctr(socket: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(bin().join("ctr"));
    command.arg("--address").arg(socket).arg("--timeout").arg("10s").args(arguments).env("PATH", path());
    process::capture(&mut command)
}

fn wait_ready(server: &mut Server, socket: &Path) -> Result<()> {
    let start = Instant::now();
    // The client comes first when the socket is there: it would wait 10 s for a server that is not.
    while !socket.exists() || ctr(socket, &["version"]).is_err() {
        if let Some(status) = server.exited() {
            bail!("containerd ended before it was ready ({status})");
        }
        if stop::is_told() {
            bail!("told to stop before containerd was ready");
        }
        if start.elapsed() > READY_LIMIT {
            bail!("containerd was not ready after {} s", READY_LIMIT.as_secs());
        }
        std::thread::sleep(RETRY_INTERVAL);
    }
    Ok(())
}

/// Kills and deletes what still runs, through containerd, so that its cgroups and mounts go too.
fn remove_containers(socket: &Path) {
    let namespaces = ctr(socket, &["namespaces", "list", "--quiet"]).unwrap_or_default();
    for namespace in namespaces.lines() {
        let list =
            ctr(socket, &["--namespace", namespace, "containers", "list", "--quiet"]).unwrap_or_default();
        for container in list.lines() {
            for arguments in
                [["tasks", "delete", "--force", container].as_slice(), &["containers", "delete", container]]
            {
                let arguments = [&["--namespace", namespace], arguments].concat();
                // A container without a task is ordinary: what counts is what is left over below.
                if let Err(error) = ctr(socket, &arguments)
                    && arguments.contains(&"containers")
                {
                    eprintln!("container {container} of {namespace}: {error:#}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_containerd_keeps_lies_in_its_folder() {
        let text = configuration(Path::new("/lab/run/7"), Path::new("/lab/run/7/sock"));
        let paths = text.lines().filter_map(|line| line.split_once("= \"/").map(|(_, path)| path));
        assert_eq!(paths.clone().count(), 4);
        assert!(paths.into_iter().all(|path| path.starts_with("lab/run/7/")), "{text}");
    }
}
