//! `build-ebpf`: builds the kernel programs and describes what came out.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{elf, workspace};

/// Read by bytecode's build script.
const MACHINE: &str = "KOVAR_BPF_MACHINE";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The machine that the programs are to run on: x86_64 or aarch64; without it, this one.
    #[arg(long)]
    arch: Option<String>,
}

/// The messages of `cargo build --message-format=json` that matter here.
#[derive(Debug, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
enum Message {
    BuildScriptExecuted {
        package_id: String,
        out_dir: PathBuf,
    },
    #[serde(other)]
    Other,
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    let mut build = workspace::cargo();
    build.args(["build", "--release", "--package", "bytecode", "--message-format", "json"]);
    if let Some(arch) = &args.arch {
        // In a folder of its own: the next ordinary build would have to be made anew otherwise.
        build.env(MACHINE, arch).arg("--target-dir").arg(workspace::root().join("target/bpf").join(arch));
    }
    let output =
        build.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        return Ok(false);
    }
    let out_dir = String::from_utf8_lossy(&output.stdout).lines().find_map(out_dir);
    let Some(out_dir) = out_dir else {
        bail!("cargo did not say where bytecode's build script put its output")
    };

    let object = out_dir.join("sampler");
    let bytes = fs::read(&object).with_context(|| object.display().to_string())?;
    let toolchain = fs::read_to_string(out_dir.join("toolchain")).context("the toolchain's name")?;
    println!("toolchain  {}", toolchain.trim());
    println!("object     {} ({} bytes)", object.display(), bytes.len());
    let programs = elf::programs(&bytes).with_context(|| object.display().to_string())?;
    if programs.is_empty() {
        bail!("{} holds no program", object.display());
    }
    for program in programs {
        println!("program    {} ({}, {} instructions)", program.name, program.section, program.instructions);
    }
    Ok(true)
}

fn out_dir(line: &str) -> Option<PathBuf> {
    match serde_json::from_str(line).ok()? {
        Message::BuildScriptExecuted { package_id, out_dir } if package_id.contains("/bytecode#") => {
            Some(out_dir)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_message_of_bytecode_counts() {
        let line = |package: &str| {
            format!(
                "{{\"reason\":\"build-script-executed\",\"package_id\":\"path+file:///x/{package}#0.1.0\",\
                 \"out_dir\":\"/out\",\"env\":[]}}"
            )
        };
        assert_eq!(out_dir(&line("bpf/bytecode")), Some(PathBuf::from("/out")));
        assert_eq!(out_dir(&line("userspace/model")), None);
        assert_eq!(out_dir("{\"reason\":\"compiler-artifact\"}"), None);
    }
}
