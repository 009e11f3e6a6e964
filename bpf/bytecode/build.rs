//! Compiles the kernel programs of `bpf/probes` into OUT_DIR, with whichever BPF toolchain the machine has.

use std::env;
use std::error::Error;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "bpfel-unknown-none";
const PROGRAM: &str = "sampler";
/// Debian's compiler, whose `core` for BPF comes as the package libstd-rust-web-dev-bpf.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// Machine for which the programs are built, where it is not the one that the outer build is for.
const MACHINE: &str = "KOVAR_BPF_MACHINE";
/// The outer build's settings, none of which may reach the kernel programs.
const OUTER_SETTINGS: [&str; 12] = [
    "RUSTFLAGS",
    "RUSTC",
    "RUSTDOC",
    "RUSTUP_TOOLCHAIN",
    "CARGO_ENCODED_RUST",
    "CARGO_BUILD_",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
    "CARGO_UNSTABLE_",
    "CARGO_INCREMENTAL",
    "CLIPPY_",
    "__CARGO",
];
/// The kernel programs' profile, whatever the host's is.
const PROFILE: [(&str, &str); 7] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3"),
    ("CARGO_PROFILE_RELEASE_LTO", "fat"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "2"),
    ("CARGO_PROFILE_RELEASE_STRIP", "none"),
    ("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "false"),
];

/// Where `core` for BPF comes from.
enum Toolchain {
    /// Debian's compiler with a prebuilt `core`.
    Debian,
    /// A rustup nightly (named here) that compiles `core` from rust-src.
    Nightly(String),
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Debian => write!(f, "{DEBIAN_RUSTC} with the prebuilt core of libstd-rust-web-dev-bpf"),
            Self::Nightly(name) => write!(f, "rustup {name} with -Z build-std=core"),
        }
    }
}

/// The machine whose registers the programs read.
#[derive(Clone, Copy)]
enum Machine {
    X86_64,
    Aarch64,
}

impl Machine {
    fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    fn features(self) -> &'static [&'static str] {
        match self {
            Self::X86_64 => &[],
            Self::Aarch64 => &["--features", "aarch64"],
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let workspace = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../..").canonicalize()?;
    for input in ["bpf/probes", "bpf/abi", "bpf/unwind", "bpf/bytecode/build.rs", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(input).display());
    }
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    let linker = find_linker().ok_or("bpf-linker is not installed: run `cargo xtask setup`")?;
    let toolchain = find_toolchain().ok_or(
        "no Rust toolchain for BPF: neither Debian's rustc-web with libstd-rust-web-dev-bpf nor a rustup \
         nightly with rust-src is installed: run `cargo xtask setup`",
    )?;

    let machine = machine()?;
    let target_dir = out_dir.join("cargo");
    let mut build = cargo(&toolchain)?;
    build
        .current_dir(&workspace)
        .args(["build", "--locked", "--release", "--package", "probes", "--bin", PROGRAM, "--target", TARGET])
        .args(machine.features())
        .arg("--target-dir")
        .arg(&target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(&linker))
        // Which machine's registers aya-ebpf knows.
        .env("AYA_BPF_TARGET_ARCH", machine.name());
    let status = build.status().map_err(|e| format!("cannot start {:?}: {e}", build.get_program()))?;
    if !status.success() {
        return Err(format!("the kernel programs do not build with {toolchain} ({status})").into());
    }
    fs::copy(target_dir.join(TARGET).join("release").join(PROGRAM), out_dir.join(PROGRAM))?;
    fs::write(out_dir.join("toolchain"), format!("{toolchain}\n"))?;
    Ok(())
}

fn machine() -> Result<Machine, Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed={MACHINE}");
    let name = env::var(MACHINE).or_else(|_unset| env::var("CARGO_CFG_TARGET_ARCH"))?;
    [Machine::X86_64, Machine::Aarch64]
        .into_iter()
        .find(|machine| machine.name() == name)
        .ok_or_else(|| format!("the kernel programs know x86_64 and aarch64, not {name}").into())
}

/// Cargo for this toolchain, its environment free of the outer build's settings.
fn cargo(toolchain: &Toolchain) -> Result<Command, env::VarError> {
    let mut command = match toolchain {
        Toolchain::Debian => Command::new(env::var("CARGO")?),
        Toolchain::Nightly(_) => Command::new("rustup"),
    };
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if OUTER_SETTINGS.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name.as_ref());
        }
    }
    command.envs(PROFILE);
    match toolchain {
        // Prebuilt as it is, `core` for BPF is still reached by unstable features (aya-ebpf uses them).
        Toolchain::Debian => command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1"),
        Toolchain::Nightly(name) => {
            command.args(["run", name.as_str(), "cargo"]).args(["-Z", "build-std=core"]).env_remove("CARGO")
        }
    };
    Ok(command)
}

fn rustflags(linker: &Path) -> String {
    let linker = format!("linker={}", linker.display());
    ["-C", "debuginfo=2", "-C", &linker, "-C", "link-arg=--btf"].join("\x1f")
}

/// bpf-linker from PATH, or from where `cargo install` puts it: under sudo the two differ.
fn find_linker() -> Option<PathBuf> {
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let path = env::var_os("PATH").unwrap_or_default();
    println!("cargo::rerun-if-env-changed=PATH");
    env::split_paths(&path)
        .chain(cargo_home.map(|home| home.join("bin")))
        .map(|dir| dir.join("bpf-linker"))
        .find(|candidate| candidate.is_file())
}

fn find_toolchain() -> Option<Toolchain> {
    if let Some(libdir) =
        output(Command::new(DEBIAN_RUSTC).args(["--print", "target-libdir", "--target", TARGET]))
        && has_core(Path::new(libdir.trim()))
    {
        return Some(Toolchain::Debian);
    }
    let list = output(Command::new("rustup").args(["toolchain", "list"]))?;
    list.lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| name.starts_with("nightly"))
        .find(|name| {
            output(Command::new("rustup").args(["run", name, "rustc", "--print", "sysroot"])).is_some_and(
                |sysroot| Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").is_dir(),
            )
        })
        .map(|name| Toolchain::Nightly(name.to_owned()))
}

fn has_core(libdir: &Path) -> bool {
    fs::read_dir(libdir).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
    })
}

/// What the command prints, if it can be run and succeeds.
fn output(command: &mut Command) -> Option<String> {
    let output = command.env_remove("RUSTUP_TOOLCHAIN").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
