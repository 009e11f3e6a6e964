//! The profile that the page hands out.

use anyhow::{Context, Result, ensure};
use tests::pprof::{self, Profile};
use tests::wait;

use crate::browser::SHOW_LIMIT;
use crate::collector::PROCESS;
use crate::{Browser, Collector};

#[test]
fn the_download_is_the_pprof_of_what_is_shown() -> Result<()> {
    let test = "the_download_is_the_pprof_of_what_is_shown";
    let Some(browser) = Browser::start(test)? else { return Ok(()) };
    let Some(collector) = Collector::start(test)? else { return Ok(()) };
    collector.open_paused(&browser, &format!("process={PROCESS}&frames=user"))?;

    let link = browser.attribute("#download", "href")?;
    ensure!(
        link.starts_with("/api/v1/pprof?") && link.contains(PROCESS) && link.contains("frames=user"),
        "{link}"
    );
    ensure!(!link.contains("now"), "{link} moves on");
    let answer = collector.kovar.get(&link)?;
    let disposition = answer.header("content-disposition").context("a file name")?;
    ensure!(answer.status == 200 && disposition.contains("attachment"), "{} {disposition}", answer.status);
    ensure!(disposition.contains(PROCESS) && disposition.contains(".pb.gz"), "{disposition}");

    let profile = Profile::parse(&answer.body)?;
    ensure!(profile.stacks.iter().all(|stack| stack.process_name() == PROCESS), "other processes are in it");
    ensure!(
        !profile.stacks.iter().any(|stack| stack.frames.iter().any(pprof::Frame::is_kernel)),
        "kernel frames"
    );
    let in_work_a = pprof::samples(profile.stacks.iter().filter(|stack| stack.leaf() == "work_a"));
    let shown = browser.script(
        "return [...document.querySelectorAll('#top tbody tr')].find(row => row.entry.frame.name === 'work_a').entry.self",
        &[],
    )?;
    ensure!(
        in_work_a > 0 && shown.as_u64() == Some(in_work_a * profile.period_ns),
        "{in_work_a} samples, {shown} ns"
    );

    // And the browser itself gets it.
    let fetched = browser.script(
        "const link = document.querySelector('#download');
         window.downloaded = null;
         fetch(link.href).then(answer => answer.arrayBuffer()).then(body => window.downloaded = body.byteLength);",
        &[],
    );
    fetched?;
    wait::until("the download", SHOW_LIMIT, || {
        Ok(browser.script("return window.downloaded", &[])?.as_u64())
    })?;
    browser.finish()
}
