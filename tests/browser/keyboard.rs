//! Everything without a mouse.

use anyhow::{Result, ensure};
use thirtyfour::Key;

use crate::collector::PROCESS;
use crate::{Browser, Collector};

#[test]
fn keys_search_move_between_frames_and_zoom() -> Result<()> {
    let test = "keys_search_move_between_frames_and_zoom";
    let Some(browser) = Browser::start(test)? else { return Ok(()) };
    let Some(collector) = Collector::start(test)? else { return Ok(()) };
    collector.open_paused(&browser, &format!("process={PROCESS}&group=process"))?;

    browser.keys("/")?;
    ensure!(focused(&browser)? == "search", "{} has the focus", focused(&browser)?);
    browser.keys("work_b")?;
    browser.keys(Key::Enter)?;
    let named = |name: &'static str| browser.wait_text("#focus-name", move |text| text == name);
    named("work_b")?;
    for _ in 0..20 {
        if focused(&browser)? == "flamegraph" {
            break;
        }
        browser.keys(Key::Tab)?;
    }
    ensure!(focused(&browser)? == "flamegraph", "Tab does not reach the flame graph");
    browser.keys(Key::Up)?;
    named("dispatch")?;
    // The widest below it.
    browser.keys(Key::Down)?;
    named("work_a")?;
    let before = browser.script("return document.querySelector('.cursor').style.left", &[])?;
    browser.keys(Key::Right)?;
    browser.wait_text("#focus-name", |name| name != "work_a")?;
    let after = browser.script("return document.querySelector('.cursor').style.left", &[])?;
    ensure!(before != after, "the cursor stays at {before}");
    browser.keys(Key::Left)?;
    named("work_a")?;
    browser.keys(Key::Enter)?;
    browser.wait_url(|url| url.contains("zoom="))?;
    browser.keys(Key::Escape)?;
    browser.wait_url(|url| !url.contains("zoom="))?;
    browser.keys(Key::Home)?;
    named("all")?;
    browser.finish()
}

/// The id of the element with the focus.
fn focused(browser: &Browser) -> Result<String> {
    Ok(browser.script("return document.activeElement.id", &[])?.as_str().unwrap_or_default().to_owned())
}
