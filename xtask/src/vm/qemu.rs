//! One boot under emulation: no /dev/kvm is needed.

use std::fs::File;
use std::io::{LineWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::guest::Report;
use super::kernels::Kernel;
use crate::process;

/// No device but a console.
const ARGUMENTS: [&str; 7] = ["-cpu", "max", "-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio"];
/// Without a check of the timer that an emulated CPU on a busy machine may fail, upon which the kernel panics.
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 no_timer_check";

/// The machine that is emulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Machine {
    /// Two CPUs that run beside each other.
    Ordinary,
    /// One CPU whose time is the count of its instructions, so that costs do not depend on this machine.
    Counted,
}

/// Guest time that one instruction takes on [`Machine::Counted`]: 2 to the power of `shift`, in nanoseconds.
pub(crate) const NS_PER_INSTRUCTION: u64 = 2;

impl Machine {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Ordinary => &["-accel", "tcg,thread=multi", "-smp", "2", "-m", "1G"],
            Self::Counted => &[
                "-accel",
                "tcg,thread=single",
                "-icount",
                "shift=1,align=off,sleep=off",
                "-smp",
                "1",
                "-m",
                "2G",
            ],
        }
    }
}

/// Boots and reads the console until the guest powers off or `limit` passes; the console is kept in a file. `words` stand
/// at the end of the kernel's command line.
pub(super) fn boot(
    machine: Machine,
    kernel: &Kernel,
    initramfs: &Path,
    words: &str,
    limit: Duration,
) -> Result<Report> {
    let log = initramfs.with_file_name(format!("{}.console", kernel.series));
    let mut console = LineWriter::new(File::create(&log).with_context(|| log.display().to_string())?);
    let mut command = Command::new("qemu-system-x86_64");
    command.args(machine.arguments()).args(ARGUMENTS);
    command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(initramfs);
    command.arg("-append").arg(format!("{COMMAND_LINE} {words}"));
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
