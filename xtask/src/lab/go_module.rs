//! Builds a program of a public Go module through a wrapper module of our own, because `go install` refuses a
//! module that has replace directives.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{BuildLock, go};
use crate::{process, workspace};

const BUILD_LIMIT: Duration = Duration::from_secs(1800);
const STAMP: &str = "built-from";
/// The folder of a module's patched copy.
const PATCHED: &str = "patched";

/// What to build, and where it differs from what its own go.mod says.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) name: &'static str,
    pub(super) module: &'static str,
    pub(super) version: &'static str,
    /// The program's package: below the module, empty for the module's root, or `./...` for one of our files.
    pub(super) package: &'static str,
    pub(super) ldflags: &'static str,
    /// `(module, what replaces it)`, for a replacement by a folder of the module itself, and for our own.
    pub(super) replace: &'static [(&'static str, &'static str)],
    /// Files of our own in the wrapper: path and text.
    pub(super) files: &'static [(&'static str, &'static str)],
    /// Files of the module that ours take the place of: path in the module and text.
    pub(super) patches: &'static [(&'static str, &'static str)],
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Download {
    dir: PathBuf,
    go_mod: PathBuf,
}

/// `go mod edit -json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GoMod {
    #[serde(default)]
    replace: Option<Vec<Replace>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Replace {
    old: Version,
    new: Version,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    path: String,
    #[serde(default)]
    version: String,
}

impl Recipe {
    fn home(&self) -> PathBuf {
        workspace::lab().join(self.name)
    }

    fn binary(&self) -> PathBuf {
        self.home().join("bin").join(self.name)
    }

    /// The binary, when it was built from this very recipe.
    pub(super) fn built(&self) -> Option<PathBuf> {
        let stamp = fs::read_to_string(self.home().join(STAMP)).ok()?;
        (stamp == self.stamp() && self.binary().is_file()).then(|| self.binary())
    }

    /// Builds it unless it is built; a second process that wants it waits for the first.
    pub(super) fn build(&self) -> Result<PathBuf> {
        let _lock = BuildLock::take(self.name)?;
        if let Some(binary) = self.built() {
            return Ok(binary);
        }
        let go = go::program()?;
        let home = self.home();
        fs::create_dir_all(&home).with_context(|| home.display().to_string())?;
        let wanted = format!("{}@{}", self.module, self.version);
        eprintln!("fetching {wanted} ...");
        let json = process::capture(
            Command::new(&go).current_dir(&home).args(["mod", "download", "-json", &wanted]),
        )?;
        let download: Download = serde_json::from_str(&json).context("go mod download")?;
        let json = process::capture(Command::new(&go).args(["mod", "edit", "-json"]).arg(&download.go_mod))?;
        let go_mod: GoMod = serde_json::from_str(&json).context("go mod edit")?;

        write(&home.join("go.mod"), &self.go_mod(&go_mod.replace.unwrap_or_default())?)?;
        for (path, text) in self.files {
            write(&home.join(path), text)?;
        }
        self.patch(&download.dir)?;
        // The checksum database does not know every module; the server's own sums are as good.
        fs::copy(download.dir.join("go.sum"), home.join("go.sum")).context("the module's go.sum")?;
        set_writable(&home.join("go.sum"))?;

        let mut build = Command::new(&go);
        build.current_dir(&home).args(["build", "-mod=mod", "-trimpath", "-buildvcs=false", "-o"]);
        build.arg(self.binary()).arg(format!("-ldflags={}", self.ldflags)).arg(self.import_path());
        build.env("CGO_ENABLED", "0");
        process::step(&format!("building {wanted}"), &mut build, BUILD_LIMIT)?;
        write(&home.join(STAMP), &self.stamp())?;
        Ok(self.binary())
    }

    fn import_path(&self) -> String {
        match self.package {
            "" => self.module.to_owned(),
            own if own.starts_with("./") => own.to_owned(),
            below => format!("{}/{below}", self.module),
        }
    }

    /// Copies the module and puts our files into the copy: Go lets no overlay lie over its module cache.
    fn patch(&self, module: &Path) -> Result<()> {
        if self.patches.is_empty() {
            return Ok(());
        }
        let copy = self.home().join(PATCHED);
        if copy.exists() {
            fs::remove_dir_all(&copy).with_context(|| copy.display().to_string())?;
        }
        process::capture(
            Command::new("cp").args(["-R", "--no-preserve=mode,ownership"]).arg(module).arg(&copy),
        )?;
        for (path, text) in self.patches {
            let file = copy.join(path);
            if !file.is_file() {
                bail!("{} {} has no {path} to take the place of", self.module, self.version);
            }
            write(&file, text)?;
        }
        Ok(())
    }

    fn stamp(&self) -> String {
        format!("{self:?}\n")
    }

    /// The wrapper's go.mod: the module itself, its replacements, and ours over them.
    fn go_mod(&self, replaces: &[Replace]) -> Result<String> {
        let mut lines = BTreeMap::new();
        for Replace { old, new } in replaces {
            if !new.version.is_empty() {
                lines.insert(joined(old), joined(new));
            } else if !self.replace.iter().any(|(module, _)| *module == old.path) {
                bail!(
                    "{} replaces {} by its own folder {}: name a version in the recipe",
                    self.name,
                    old.path,
                    new.path
                );
            }
        }
        lines.extend(self.replace.iter().map(|(module, by)| ((*module).to_owned(), (*by).to_owned())));
        if !self.patches.is_empty() {
            lines.insert(self.module.to_owned(), format!("./{PATCHED}"));
        }
        let replaces: String = lines.iter().map(|(old, new)| format!("\t{old} => {new}\n")).collect();
        Ok(format!(
            "module lab/{}\n\ngo 1.21\n\nrequire {} {}\n\nreplace (\n{replaces})\n",
            self.name, self.module, self.version
        ))
    }
}

fn joined(version: &Version) -> String {
    format!("{} {}", version.path, version.version).trim_end().to_owned()
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    }
    fs::write(path, text).with_context(|| path.display().to_string())
}

/// The module cache is read-only, and so is what is copied from it.
fn set_writable(path: &Path) -> Result<()> {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(path, mode).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: Recipe = Recipe {
        name: "thing",
        module: "example.com/thing",
        version: "v1.2.3",
        package: "cmd/thing",
        ldflags: "",
        replace: &[("example.com/thing/api", "example.com/thing/api v0.2.0"), ("example.com/old", "./stub")],
        files: &[],
        patches: &[],
    };

    fn replaces(json: &str) -> Vec<Replace> {
        serde_json::from_str::<GoMod>(json).unwrap().replace.unwrap_or_default()
    }

    #[test]
    fn the_wrapper_takes_over_replacements_and_puts_ours_over_them() {
        let theirs = replaces(
            r#"{"Module":{"Path":"example.com/thing"},"Replace":[
                {"Old":{"Path":"example.com/list"},"New":{"Path":"example.com/fork","Version":"v0.3.1"}},
                {"Old":{"Path":"example.com/pinned","Version":"v2.0.0"},"New":{"Path":"example.com/pinned","Version":"v2.0.1"}},
                {"Old":{"Path":"example.com/thing/api"},"New":{"Path":"./api"}}]}"#,
        );
        let expected = "module lab/thing\n\ngo 1.21\n\nrequire example.com/thing v1.2.3\n\nreplace (\n\
            \texample.com/list => example.com/fork v0.3.1\n\
            \texample.com/old => ./stub\n\
            \texample.com/pinned v2.0.0 => example.com/pinned v2.0.1\n\
            \texample.com/thing/api => example.com/thing/api v0.2.0\n)\n";
        assert_eq!(RECIPE.go_mod(&theirs).unwrap(), expected);
    }

    #[test]
    fn a_patched_module_is_replaced_by_its_copy() {
        let patched = Recipe { replace: &[], patches: &[("limit/limit.go", "package limit")], ..RECIPE };
        assert!(patched.go_mod(&[]).unwrap().contains("\texample.com/thing => ./patched\n"));
    }

    #[test]
    fn a_package_is_the_modules_root_below_it_or_ours() {
        let path = |package| Recipe { package, ..RECIPE }.import_path();
        assert_eq!(path("cmd/thing"), "example.com/thing/cmd/thing");
        assert_eq!(path(""), "example.com/thing");
        assert_eq!(path("./sink"), "./sink");
    }

    #[test]
    fn a_replacement_by_a_folder_needs_a_version_of_ours() {
        let theirs = replaces(r#"{"Replace":[{"Old":{"Path":"example.com/x"},"New":{"Path":"./x"}}]}"#);
        let error = RECIPE.go_mod(&theirs).unwrap_err().to_string();
        assert!(error.contains("example.com/x") && error.contains("./x"), "{error}");
    }

    #[test]
    fn a_module_without_replacements_is_read() {
        assert!(replaces(r#"{"Module":{"Path":"example.com/thing"},"Replace":null}"#).is_empty());
    }
}
