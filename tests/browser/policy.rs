//! The page runs what is its own and nothing else, and the tests would see it if it tried.

use anyhow::{Result, ensure};

use crate::{Browser, Collector};

#[test]
fn what_is_not_the_pages_own_is_refused_and_seen_in_the_log() -> Result<()> {
    let test = "what_is_not_the_pages_own_is_refused_and_seen_in_the_log";
    let attempts = [
        "const script = document.createElement('script'); script.textContent = 'window.ran = true';
         document.body.append(script);",
        "const image = new Image(); image.src = 'http://127.0.0.1:9/x.png'; document.body.append(image);",
    ];
    for attempt in attempts {
        let Some(browser) = Browser::start(test)? else { return Ok(()) };
        let Some(collector) = Collector::start(test)? else { return Ok(()) };
        collector.open_paused(&browser, "")?;
        browser.script(attempt, &[])?;
        ensure!(browser.script("return window.ran === undefined", &[])? == true, "a script from outside ran");
        let Err(error) = browser.finish() else { anyhow::bail!("nothing in the log of {attempt}") };
        ensure!(error.to_string().contains("Content Security Policy"), "{error}");
    }
    Ok(())
}
