//! The BPF toolchain: a compiler with `core` for BPF, and bpf-linker in the pinned version.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::distribution::{self, Distribution};
use crate::{process, workspace};

const VERSION: &str = "0.13.0";
/// What Debian's LLVM is called, where it is, and the feature of bpf-linker that links it.
const LLVM_PACKAGE: &str = "llvm-22-dev";
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
const LLVM_FEATURE: &str = "llvm-22";
/// Debian's Rust with `core` prebuilt for bpfel-unknown-none, and the LLVM that bpf-linker links.
const DEBIAN_PACKAGES: [&str; 3] = [LLVM_PACKAGE, "rustc-web", "libstd-rust-web-dev-bpf"];
const INSTALL_LIMIT: Duration = Duration::from_secs(1200);

/// Makes sure of a compiler that has `core` for BPF; true when something was installed.
pub(super) fn install_toolchain(distribution: &Distribution) -> Result<bool> {
    if *distribution == Distribution::Debian {
        let installed = distribution::installed(&DEBIAN_PACKAGES)?;
        let missing: Vec<&str> =
            DEBIAN_PACKAGES.into_iter().filter(|name| !installed.contains(*name)).collect();
        if missing.is_empty() {
            return Ok(false);
        }
        if missing.iter().all(|name| is_offered(name))
            || distribution::update_lists()? && missing.iter().all(|name| is_offered(name))
        {
            println!("missing: {} (compile the kernel programs)", missing.join(", "));
            if !distribution::install_by_apt(&missing)? {
                bail!("the BPF toolchain is missing");
            }
            return Ok(true);
        }
    }
    if nightly_has_source()? {
        return Ok(false);
    }
    let Some(rustup) = workspace::find_program("rustup") else {
        bail!(
            "no compiler with core for BPF: install rustup (https://rustup.rs), then run `rustup toolchain install \
             nightly --profile minimal --component rust-src`"
        );
    };
    let mut install = Command::new(rustup);
    install.args(["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"]);
    process::step("rustup toolchain install nightly with rust-src", &mut install, INSTALL_LIMIT)?;
    Ok(true)
}

/// Installs bpf-linker unless the pinned version is there; true when it was installed.
pub(super) fn install() -> Result<bool> {
    if let Some(linker) = workspace::find_program("bpf-linker") {
        let version = process::capture(Command::new(&linker).arg("--version"));
        if version.is_ok_and(|line| line.trim().ends_with(VERSION)) {
            return Ok(false);
        }
    }
    let mut install = workspace::cargo();
    install.args(["install", "bpf-linker", "--version", VERSION, "--locked", "--force"]);
    if Path::new(LLVM_PREFIX).join("include/llvm-c").exists() {
        install.args(["--no-default-features", "--features", LLVM_FEATURE]);
        install.env("LLVM_PREFIX", LLVM_PREFIX);
    }
    process::step(&format!("cargo install bpf-linker {VERSION}"), &mut install, INSTALL_LIMIT)?;
    Ok(true)
}

/// Whether apt can install the package, by the lists it has now.
fn is_offered(package: &str) -> bool {
    let mut policy = Command::new("apt-cache");
    policy.args(["policy", package]).env("LC_ALL", "C");
    process::capture(&mut policy)
        .is_ok_and(|text| text.lines().any(|line| candidate(line).is_some_and(|version| version != "(none)")))
}

fn candidate(line: &str) -> Option<&str> {
    line.trim().strip_prefix("Candidate: ")
}

fn nightly_has_source() -> Result<bool> {
    let Some(rustup) = workspace::find_program("rustup") else { return Ok(false) };
    let list = process::capture(Command::new(&rustup).args(["toolchain", "list"])).context("rustup")?;
    let nightlies = list
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| name.starts_with("nightly"));
    for name in nightlies {
        let sysroot =
            process::capture(Command::new(&rustup).args(["run", name, "rustc", "--print", "sysroot"]))?;
        if Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").is_dir() {
            return Ok(true);
        }
    }
    Ok(false)
}
