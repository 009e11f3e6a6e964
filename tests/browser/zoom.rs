//! Search and zoom with the mouse.

use anyhow::{Result, ensure};
use tests::wait;

use crate::browser::SHOW_LIMIT;
use crate::collector::{PROCESS, frames};
use crate::{Browser, Collector};

#[test]
fn a_search_tells_its_share_and_a_click_zooms_until_escape() -> Result<()> {
    let test = "a_search_tells_its_share_and_a_click_zooms_until_escape";
    let Some(browser) = Browser::start(test)? else { return Ok(()) };
    let Some(collector) = Collector::start(test)? else { return Ok(()) };
    collector.open_paused(&browser, &format!("process={PROCESS}&group=process"))?;

    browser.click("#search")?;
    browser.keys("work_a")?;
    let matched = browser.wait_text("#match", |text| text.contains('%'))?;
    let percent: f64 = matched.split(' ').next().unwrap_or_default().parse()?;
    // 60 of 100 below dispatch, beside which the program only reads.
    ensure!(percent > 20.0 && percent < 63.0, "{matched}");
    browser.wait_url(|url| url.contains("q=work_a"))?;
    let marked = browser.script("return document.querySelectorAll('#top tbody tr.match').length", &[])?;
    ensure!(marked == 1, "{marked} rows are marked");
    browser.keys(thirtyfour::Key::Escape)?;
    browser.wait_text("#match", str::is_empty)?;

    let before = width(&browser, "dispatch")?;
    browser.click("#flamegraph g.frame[name=dispatch]")?;
    browser.wait_text("#focus-name", |name| name == "dispatch")?;
    browser.wait_text("#breadcrumb", |path| path.contains(PROCESS) && path.contains("dispatch"))?;
    browser.wait_url(|url| url.contains("zoom="))?;
    let focus = browser.text("#focus")?;
    ensure!(focus.contains("total") && focus.contains('%'), "{focus}");
    wait::until("a wider frame", SHOW_LIMIT, || {
        Ok((width(&browser, "dispatch")? > before * 1.2).then_some(()))
    })?;
    ensure!(browser.script("return document.querySelector('#reset').disabled", &[])? == false, "no way back");

    browser.keys(thirtyfour::Key::Escape)?;
    browser.wait_url(|url| !url.contains("zoom="))?;
    ensure!(browser.script("return document.querySelector('#reset').disabled", &[])? == true, "still zoomed");
    wait::until("all frames", SHOW_LIMIT, || Ok(frames(&browser)?.contains("all").then_some(())))?;
    wait::until("the old width", SHOW_LIMIT, || {
        Ok(((width(&browser, "dispatch")? - before).abs() < 2.0).then_some(()))
    })?;
    browser.finish()
}

/// Of the widest frame of that name, in pixels.
fn width(browser: &Browser, name: &str) -> Result<f64> {
    let script = "return Math.max(0, ...[...document.querySelectorAll('#flamegraph g.frame')]
        .filter(g => g.getAttribute('name') === arguments[0]).map(g => g.getBoundingClientRect().width))";
    Ok(browser.script(script, &[name.into()])?.as_f64().unwrap_or_default())
}
