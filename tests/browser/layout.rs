//! The page on a laptop and a phone, light and dark.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::collector::PROCESS;
use crate::{Browser, Collector, pictures};

pub(crate) const LAPTOP: (u32, u32) = (1440, 900);
pub(crate) const PHONE: (u32, u32) = (390, 844);
/// Two lines.
const RANGE_TEXT_PX_MAX: u64 = 48;

#[test]
fn nothing_is_cut_off_on_a_laptop_or_a_phone() -> Result<()> {
    let test = "nothing_is_cut_off_on_a_laptop_or_a_phone";
    let Some(browser) = Browser::start(test)? else { return Ok(()) };
    let Some(collector) = Collector::start(test)? else { return Ok(()) };
    for ((width, height), is_phone) in [(LAPTOP, false), (PHONE, true)] {
        browser.resize(width, height, is_phone)?;
        collector.open(&browser, &format!("process={PROCESS}"))?;
        let inner = browser.script("return window.innerWidth", &[])?;
        ensure!(inner == width, "the window is {inner} wide and not {width}");
        let content = browser.script("return document.documentElement.scrollWidth", &[])?;
        ensure!(content.as_u64() <= Some(width.into()), "{content} pixels of content in {width}");
        let outside = browser.script(OUTSIDE, &[])?;
        ensure!(outside == Value::Array(Vec::new()), "at {width} outside the window: {outside}");
        let graph = browser.script("return document.querySelector('#flamegraph').clientWidth", &[])?;
        ensure!(graph.as_u64() > Some(u64::from(width) / 3), "the flame graph is {graph} wide at {width}");
        let text = browser.script("return document.querySelector('#range-text').offsetHeight", &[])?;
        ensure!(text.as_u64() <= Some(RANGE_TEXT_PX_MAX), "the range in words is {text} high at {width}");
    }
    browser.finish()?;
    drop(collector);
    match std::env::var_os(pictures::DIRECTORY) {
        Some(directory) => pictures::take(test, directory.as_ref()),
        None => Ok(()),
    }
}

#[test]
fn the_page_is_dark_where_the_system_is_or_the_button_says_so() -> Result<()> {
    let test = "the_page_is_dark_where_the_system_is_or_the_button_says_so";
    let Some(browser) = Browser::start(test)? else { return Ok(()) };
    let Some(collector) = Collector::start(test)? else { return Ok(()) };
    browser.prefer("light")?;
    collector.open(&browser, "")?;
    ensure!(is_light(&browser)?, "dark where the system is light");
    browser.prefer("dark")?;
    ensure!(!is_light(&browser)?, "light where the system is dark");
    browser.click("#theme")?;
    ensure!(
        browser.attribute("html", "data-theme")? == "light" && is_light(&browser)?,
        "the button does not matter"
    );
    browser.click("#theme")?;
    ensure!(
        browser.attribute("html", "data-theme")? == "dark" && !is_light(&browser)?,
        "the button does not matter"
    );
    browser.prefer("light")?;
    collector.open(&browser, "")?;
    ensure!(!is_light(&browser)?, "the choice is forgotten");
    browser.finish()
}

/// Visible controls and panels that reach beyond the window's sides.
const OUTSIDE: &str =
    "return [...document.querySelectorAll('header *, main button, main input, main select, main .panel')]
    .filter(element => element.checkVisibility())
    .map(element => [element.id || element.className || element.tagName, element.getBoundingClientRect()])
    .filter(([, box]) => box.width > 0 && (box.left < -1 || box.right > window.innerWidth + 1))
    .map(([name]) => String(name))";

/// Whether the page's text is darker than its ground.
fn is_light(browser: &Browser) -> Result<bool> {
    // A canvas knows every way of writing a colour.
    let script = "
        const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
        const luma = (colour) => {
            canvas.fillStyle = colour;
            canvas.fillRect(0, 0, 1, 1);
            const [r, g, b] = canvas.getImageData(0, 0, 1, 1).data;
            return 0.3 * r + 0.6 * g + 0.1 * b;
        };
        const style = getComputedStyle(document.body);
        return luma(style.backgroundColor) - luma(style.color);";
    let contrast = browser.script(script, &[])?.as_f64().unwrap_or_default();
    ensure!(contrast.abs() > 100.0, "text and ground differ by {contrast} of 255");
    Ok(contrast > 0.0)
}
