//! The machine's distribution: asks its package database, installs on Debian, says the command elsewhere.

use std::collections::HashSet;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;

use super::host;
use super::needs::Need;
use crate::process;
use crate::workspace;

const UPDATE_LIMIT: Duration = Duration::from_secs(300);
const INSTALL_LIMIT: Duration = Duration::from_secs(1800);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Distribution {
    /// Debian and what takes its packages' names.
    Debian,
    Fedora,
    Arch,
    Suse,
    /// Its name as it calls itself.
    Other(String),
}

impl Distribution {
    pub(crate) fn of_this_machine() -> Self {
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        Self::from_os_release(&release)
    }

    fn from_os_release(release: &str) -> Self {
        let value = |key: &str| {
            let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().trim_matches('"').to_owned()
        };
        let ids = format!("{} {}", value("ID"), value("ID_LIKE"));
        for id in ids.split_whitespace() {
            match id {
                "debian" | "ubuntu" => return Self::Debian,
                "fedora" | "rhel" => return Self::Fedora,
                "arch" => return Self::Arch,
                "suse" | "opensuse" => return Self::Suse,
                _ => {}
            }
        }
        Self::Other(value("PRETTY_NAME"))
    }

    /// Those of the needs that are not there.
    pub(super) fn missing<'a>(&self, needs: &[&'a Need]) -> Result<Vec<&'a Need>> {
        if *self != Self::Debian {
            return Ok(needs.iter().copied().filter(|need| !need.is_there()).collect());
        }
        let names: Vec<&str> = needs.iter().map(|need| need.debian).collect();
        let installed = installed(&names)?;
        // A browser or compiler that came another way serves as well.
        let missing = needs.iter().filter(|need| !installed.contains(need.debian) && !need.is_there());
        Ok(missing.copied().collect())
    }

    /// Installs; false when that cannot be done from here, and then the command for it has been printed.
    pub(super) fn install(&self, needs: &[&Need]) -> Result<bool> {
        let names: Vec<&str> = needs.iter().map(|need| need.name(self)).collect();
        let names_line = names.join(" ");
        let by_hand = match self {
            Self::Debian => return install_by_apt(&names),
            Self::Fedora => format!("sudo dnf install {names_line}"),
            Self::Arch => format!("sudo pacman -S --needed {names_line}"),
            Self::Suse => format!("sudo zypper install {names_line}"),
            Self::Other(name) => {
                println!("{name} is not known here; these are Debian's names of what has to be installed:");
                names_line
            }
        };
        println!("install it with:\n    {by_hand}\nthen run this again");
        Ok(false)
    }
}

/// Installs with apt, as root or through sudo; false when neither is possible, and then the command was printed.
pub(super) fn install_by_apt(packages: &[&str]) -> Result<bool> {
    let line = format!("apt-get install --yes --no-install-recommends {}", packages.join(" "));
    if !update_lists()? {
        println!("install it as root:\n    apt-get update && {line}\nthen run this again");
        return Ok(false);
    }
    if let Some(mut install) = as_root("apt-get") {
        install.args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(packages);
        install.env("DEBIAN_FRONTEND", "noninteractive");
        process::step(&line, &mut install, INSTALL_LIMIT)?;
    }
    Ok(true)
}

/// Fetches apt's lists once for this process; false when that cannot be done from here.
pub(super) fn update_lists() -> Result<bool> {
    static UPDATED: AtomicBool = AtomicBool::new(false);
    let Some(mut update) = as_root("apt-get") else { return Ok(false) };
    if !UPDATED.swap(true, Ordering::Relaxed) {
        process::step("apt-get update", update.args(["update", "--quiet"]), UPDATE_LIMIT)?;
    }
    Ok(true)
}

/// The packages of these names that are installed.
pub(super) fn installed(names: &[&str]) -> Result<HashSet<String>> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat", "${db:Status-Status} ${binary:Package}\\n"]).args(names);
    // It fails when it knows nothing of one of the names, and still lists the others.
    let output = query.stderr(Stdio::null()).output()?;
    Ok(parse_installed(&String::from_utf8_lossy(&output.stdout)))
}

fn parse_installed(listing: &str) -> HashSet<String> {
    let names = listing.lines().filter_map(|line| line.strip_prefix("installed "));
    names.filter_map(|name| name.split(':').next()).map(str::to_owned).collect()
}

fn as_root(program: &str) -> Option<Command> {
    if host::is_root() {
        return Some(Command::new(program));
    }
    let mut command = Command::new(workspace::find_program("sudo")?);
    command.arg(program);
    Some(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derivative_is_known_by_what_it_is_like() {
        let of = Distribution::from_os_release;
        assert_eq!(of("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), Distribution::Debian);
        assert_eq!(of("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"), Distribution::Debian);
        assert_eq!(of("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n"), Distribution::Fedora);
        assert_eq!(of("ID=\"opensuse-tumbleweed\"\nID_LIKE=\"opensuse suse\"\n"), Distribution::Suse);
        assert_eq!(of("ID=nixos\nPRETTY_NAME=\"NixOS 26\"\n"), Distribution::Other("NixOS 26".to_owned()));
    }

    #[test]
    fn a_package_that_was_removed_is_not_installed() {
        let found = parse_installed("installed gcc\nconfig-files make\ninstalled zlib1g-dev:amd64\n");
        assert!(found.contains("gcc") && found.contains("zlib1g-dev") && !found.contains("make"));
    }
}
