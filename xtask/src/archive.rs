//! Debian's archive, read through an apt configuration of our own: packages of other suites are downloaded and
//! unpacked into target/lab, never installed, and the machine's own sources and lists stay untouched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::lab::BuildLock;
use crate::{process, workspace};

const SUITES: [&str; 4] = ["bullseye", "bookworm", "trixie", "sid"];
const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const UPDATE_LIMIT: Duration = Duration::from_secs(600);
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(900);
/// Lists older than this are fetched again before a package is chosen from them.
const LISTS_MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// One package of one suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// The archive with its lists at hand; held by one process at a time.
#[derive(Debug)]
pub(crate) struct Archive {
    home: PathBuf,
    _lock: BuildLock,
}

impl Archive {
    /// Fetches the lists when there are none or they are old.
    ///
    /// # Errors
    /// When this machine has no apt, or the mirror cannot be reached.
    pub(crate) fn open() -> Result<Self> {
        if workspace::find_program("apt-get").is_none() || workspace::find_program("dpkg-deb").is_none() {
            bail!("apt-get and dpkg-deb are needed to fetch Debian's packages; run this on Debian");
        }
        let archive = Self { home: workspace::lab().join("apt"), _lock: BuildLock::take("apt")? };
        archive.configure()?;
        let stamp = archive.home.join("updated");
        let age = fs::metadata(&stamp).and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_none_or(|age| age > LISTS_MAX_AGE) {
            let mut update = archive.command("apt-get");
            let what = format!("fetching the lists of {}", SUITES.join(", "));
            process::step(&what, update.args(["update", "--quiet"]), UPDATE_LIMIT)?;
            fs::write(&stamp, "").with_context(|| stamp.display().to_string())?;
        }
        Ok(archive)
    }

    /// The packages whose name matches the regular expression, in every version the suites have.
    pub(crate) fn search(&self, name: &str) -> Result<Vec<Package>> {
        let records =
            process::capture(self.command("apt-cache").args(["search", "--names-only", "--full", name]))?;
        Ok(parse_records(&records))
    }

    /// Downloads a package (`name`, `name=version` or `name/suite`) and unpacks it into the folder.
    pub(crate) fn unpack(&self, package: &str, into: &Path) -> Result<()> {
        let downloads = self.home.join("download");
        if downloads.exists() {
            fs::remove_dir_all(&downloads).with_context(|| downloads.display().to_string())?;
        }
        fs::create_dir_all(&downloads).with_context(|| downloads.display().to_string())?;
        let mut download = self.command("apt-get");
        download.current_dir(&downloads).args(["download", "--quiet", package]);
        process::step(&format!("downloading {package}"), &mut download, DOWNLOAD_LIMIT)?;
        let mut files = fs::read_dir(&downloads).with_context(|| downloads.display().to_string())?;
        let Some(Ok(deb)) = files.next() else { bail!("apt-get download {package} left no file") };
        fs::create_dir_all(into).with_context(|| into.display().to_string())?;
        process::capture(Command::new("dpkg-deb").arg("-x").arg(deb.path()).arg(into))?;
        fs::remove_dir_all(&downloads).with_context(|| downloads.display().to_string())
    }

    fn configure(&self) -> Result<()> {
        for dir in ["state/lists/partial", "cache/archives/partial", "etc/parts"] {
            let path = self.home.join(dir);
            fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        }
        let mirror = mirror();
        let sources: String = SUITES
            .map(|suite| format!("deb [signed-by={KEYRING} target=Packages] {mirror} {suite} main\n"))
            .concat();
        let home = self.home.display();
        let config = format!(
            "Dir::State \"{home}/state\";\nDir::State::status \"/dev/null\";\nDir::Cache \"{home}/cache\";\n\
             Dir::Etc::sourcelist \"{home}/etc/sources.list\";\nDir::Etc::sourceparts \"{home}/etc/parts\";\n\
             Dir::Etc::preferencesparts \"{home}/etc/parts\";\nAcquire::Languages \"none\";\nAPT::Sandbox::User \"\";\n\
             #clear APT::Update::Post-Invoke-Success;\n#clear DPkg::Post-Invoke;\n"
        );
        for (name, text) in [("etc/sources.list", sources), ("apt.conf", config)] {
            let path = self.home.join(name);
            fs::write(&path, text).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // Read last, after the machine's own (which may name its proxy).
        command.arg("--config-file").arg(self.home.join("apt.conf")).env("LC_ALL", "C");
        command
    }
}

/// The mirror that this machine uses.
fn mirror() -> String {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let parts = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    files.extend(parts.map(|entry| entry.path()));
    let texts = files.iter().filter_map(|file| fs::read_to_string(file).ok());
    texts.into_iter().find_map(|text| mirror_in(&text)).unwrap_or_else(|| DEFAULT_MIRROR.to_owned())
}

fn mirror_in(sources: &str) -> Option<String> {
    let lines = sources.lines().filter(|line| !line.trim_start().starts_with('#'));
    let mut words = lines.flat_map(str::split_whitespace);
    words
        .find(|word| word.starts_with("http") && word.trim_end_matches('/').ends_with("/debian"))
        .map(|word| word.trim_end_matches('/').to_owned())
}

fn parse_records(records: &str) -> Vec<Package> {
    let field = |record: &str, name: &str| {
        record.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
    };
    records
        .split("\n\n")
        .filter_map(|record| {
            Some(Package { name: field(record, "Package")?, version: field(record, "Version")? })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_the_packages_index_are_read() {
        let records = "Package: linux-image-a\nDescription: one\n with Version: inside\nVersion: 6.1.9-1\n\n\
            Package: linux-image-b\nVersion: 6.1.10-1\n\n";
        let package =
            |name: &str, version: &str| Package { name: name.to_owned(), version: version.to_owned() };
        assert_eq!(
            parse_records(records),
            [package("linux-image-a", "6.1.9-1"), package("linux-image-b", "6.1.10-1")]
        );
    }

    #[test]
    fn the_machines_mirror_is_found_in_both_formats() {
        let deb822 = "Types: deb\n# http://old.example/debian\nURIs: http://mirror.example/debian/\nSuites: bookworm\n";
        assert_eq!(mirror_in(deb822).as_deref(), Some("http://mirror.example/debian"));
        let one_line = "deb [arch=amd64] https://m.example/debian bookworm main\n";
        assert_eq!(mirror_in(one_line).as_deref(), Some("https://m.example/debian"));
        assert_eq!(mirror_in("URIs: http://m.example/debian-security\n"), None);
    }
}
