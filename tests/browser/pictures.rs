//! Pictures for the documentation: the whole machine for a minute, at work on several things.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tests::kovar::Running;
use tests::process::Process;
use tests::program::Program;
use tests::wait;

use crate::Browser;
use crate::browser::SHOW_LIMIT;
use crate::collector::frames;
use crate::layout::{LAPTOP, PHONE};

/// Names the directory they go to; without it none are taken.
pub(crate) const DIRECTORY: &str = "KOVAR_SCREENSHOT";
const LOAD_TIME: Duration = Duration::from_secs(60);
const REFRESHES: u32 = 3;
/// Each of them in a shell of its own, over and over, in a directory with the file `text`.
const LOAD: [&str; 3] = [
    "gzip < text > text.gz",
    "find /usr /etc -xdev -type f -size -16k -exec cat {} + | md5sum",
    "dd if=/dev/zero of=zeros bs=64k count=2000 conv=fsync",
];
const FRAME_POINTERS: [&str; 3] = ["-O0", "-g", "-fno-omit-frame-pointer"];

/// Writes `ui.png` and `ui-phone.png`.
pub(crate) fn take(test: &str, directory: &Path) -> Result<()> {
    let Some(browser) = Browser::start(test)? else { return Ok(()) };
    let storage = tempfile::tempdir()?;
    let kovar = Running::start(storage.path(), "node: {name: node-1}")?;
    let work = tempfile::tempdir()?;
    fs::write(work.path().join("text"), text())?;
    let programs = [
        (Program::split_as("worker")?, &["100000", "1"][..]),
        (Program::compile("shop.cpp", &FRAME_POINTERS)?, &[]),
        (Program::compile("orchard.rs", &["-g", "-Cforce-frame-pointers=yes", "-Copt-level=1"])?, &[]),
    ];
    let mut load: Vec<Process> =
        programs.iter().map(|(program, arguments)| program.start(arguments)).collect::<Result<_>>()?;
    for command in LOAD {
        load.push(repeat(command, work.path())?);
    }
    let start = Instant::now();
    wait::until("a minute of work", LOAD_TIME * 2, || Ok((start.elapsed() >= LOAD_TIME).then_some(())))?;
    browser.prefer("light")?;
    for (name, (width, height), is_phone) in [("ui.png", LAPTOP, false), ("ui-phone.png", PHONE, true)] {
        browser.resize(width, height, is_phone)?;
        browser.open(&format!("{}/?from=now-1m", kovar.url()))?;
        wait::until("frames", SHOW_LIMIT, || Ok((frames(&browser)?.len() > 20).then_some(())))?;
        // The interval under way is in the answer from the second one on.
        for _ in 0..REFRESHES {
            let before = browser.text("#range-text")?;
            browser.wait_text("#range-text", |text| text != before)?;
        }
        let path = directory.join(name);
        fs::write(&path, browser.screenshot()?).with_context(|| path.display().to_string())?;
    }
    browser.finish()
}

fn repeat(command: &str, directory: &Path) -> Result<Process> {
    let mut shell = Command::new("sh");
    let again = format!("while true; do {command}; done > /dev/null 2>&1");
    shell.args(["-c", &again]).current_dir(directory);
    Process::start(shell)
}

/// Some megabytes that can be compressed, but not at once.
fn text() -> String {
    let mut state = 1u32;
    let mut word = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        format!("{:x} ", state >> 18)
    };
    (0..2_000_000).map(|_| word()).collect()
}
