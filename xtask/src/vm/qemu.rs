//! One boot under emulation: no /dev/kvm is needed.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::guest::Report;
use super::kernels::Kernel;
use crate::{process, workspace};

const ARGUMENTS: [&str; 13] = [
    "-accel",
    "tcg,thread=multi",
    "-cpu",
    "max",
    "-smp",
    "2",
    "-m",
    "1G",
    "-nographic",
    "-no-reboot",
    "-nodefaults",
    "-serial",
    "stdio",
];
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1";

/// Boots and reads the console until the guest powers off or `limit` passes; the console is kept in a file.
pub(super) fn boot(kernel: &Kernel, initramfs: &Path, limit: Duration) -> Result<Report> {
    let log = workspace::lab().join("kernels").join(format!("{}.console", kernel.series));
    let mut console = BufWriter::new(File::create(&log).with_context(|| log.display().to_string())?);
    let mut command = Command::new("qemu-system-x86_64");
    command.args(ARGUMENTS).arg("-kernel").arg(&kernel.image).arg("-initrd").arg(initramfs);
    command.args(["-append", COMMAND_LINE]);
    let mut report = Report::default();
    let what = format!("guest with kernel {}", kernel.series);
    let ended = process::lines(&what, command, limit, |line| {
        report.read(line);
        if let Err(error) = writeln!(console, "{line}") {
            eprintln!("{}: {error}", log.display());
        }
    });
    // A guest out of time is reported with the console it left, like one that died.
    match ended {
        Ok(status) if !status.success() => report.read(&format!("QEMU ended with {status}")),
        Ok(_) => {}
        Err(error) => report.read(&format!("{error:#}")),
    }
    Ok(report)
}
