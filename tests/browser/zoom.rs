//! Search and zoom with the mouse.

use anyhow::{Context, Result, ensure};
use tests::wait;

use crate::browser::SHOW_LIMIT;
use crate::collector::{PROCESS, frames};
use crate::{Browser, Collector};

/// CPU time below dispatch from which on its parts are near 60, 30 and 10 percent: some 200 samples.
const DISPATCH_NS_MIN: f64 = 2e9;
/// Of the time below dispatch. 4 standard deviations of 200 samples are 14 points.
const WORK_A_PERCENT: std::ops::RangeInclusive<f64> = 45.0..=75.0;
/// The page shows one decimal.
const SHOWN_ERROR_PERCENT: f64 = 0.1;
/// Of a frame's edges, which are drawn between pixels.
const EDGE_PX: f64 = 1.0;

#[test]
fn a_search_tells_its_share_and_a_click_zooms_until_escape() -> Result<()> {
    let test = "a_search_tells_its_share_and_a_click_zooms_until_escape";
    let Some(browser) = Browser::start(test)? else { return Ok(()) };
    let Some(collector) = Collector::start(test)? else { return Ok(()) };
    collector.open(&browser, &format!("process={PROCESS}&group=process"))?;
    wait::until("enough samples", SHOW_LIMIT, || {
        Ok((time_ns(&browser, "dispatch")? > DISPATCH_NS_MIN).then_some(()))
    })?;
    collector.pause(&browser)?;

    browser.click("#search")?;
    browser.keys("work_a")?;
    // While it is typed, a part of it is searched for.
    browser.wait_url(|url| url.ends_with("q=work_a") || url.contains("q=work_a&"))?;
    let matched = browser.text("#match")?;
    let percent: f64 = matched.split(' ').next().unwrap_or_default().parse().context(matched.clone())?;
    let (matching, all) = (time_ns(&browser, "work_a")?, time_ns(&browser, "")?);
    ensure!((percent - 100.0 * matching / all).abs() < SHOWN_ERROR_PERCENT, "{matched} for {matching}/{all}");
    let of_dispatch = 100.0 * matching / time_ns(&browser, "dispatch")?;
    ensure!(WORK_A_PERCENT.contains(&of_dispatch), "{of_dispatch} % of dispatch");
    let wrong = browser.script(WRONGLY_MARKED, &["work_a".into()])?;
    ensure!(wrong == serde_json::json!([]), "marked without a match or the other way round: {wrong}");
    browser.keys(thirtyfour::Key::Escape)?;
    browser.wait_text("#match", str::is_empty)?;

    let before = settled(&browser, "dispatch")?;
    ensure!(before.frame < before.graph - EDGE_PX, "dispatch is all there is, nothing to zoom into");
    browser.click_found(WIDEST, &["dispatch".into()])?;
    browser.wait_text("#focus-name", |name| name == "dispatch")?;
    // The middle of a long path is left out.
    browser.wait_text("#breadcrumb", |path| path.starts_with("all") && path.ends_with("dispatch"))?;
    browser.wait_url(|url| url.contains("zoom="))?;
    let focus = browser.text("#focus")?;
    ensure!(focus.contains("total") && focus.contains('%'), "{focus}");
    let zoomed = settled(&browser, "dispatch")?;
    ensure!((zoomed.frame - zoomed.graph).abs() < EDGE_PX, "{zoomed:?} after a click, {before:?} before");
    ensure!(browser.script("return document.querySelector('#reset').disabled", &[])? == false, "no way back");

    browser.keys(thirtyfour::Key::Escape)?;
    browser.wait_url(|url| !url.contains("zoom="))?;
    ensure!(browser.script("return document.querySelector('#reset').disabled", &[])? == true, "still zoomed");
    let after = settled(&browser, "dispatch")?;
    ensure!(frames(&browser)?.contains("all"), "the root is not drawn");
    let change = after.frame / after.graph - before.frame / before.graph;
    ensure!((change * after.graph).abs() < EDGE_PX, "{after:?} after Escape, {before:?} before the zoom");
    browser.finish()
}

/// The widest frame named `arguments[0]`: a stack that was cut short may show the same name beside it.
const WIDEST: &str = "
    const named = [...document.querySelectorAll('#flamegraph g.frame')]
        .filter(g => g.getAttribute('name') === arguments[0]);
    const width = g => { const item = d3.select(g).datum(); return item.x1 - item.x0; };
    return named.sort((a, b) => width(b) - width(a))[0] ?? null;";

/// Rows of the table that are marked though their function's name does not contain `arguments[0]`, or not marked
/// though it does.
const WRONGLY_MARKED: &str = "
    return [...document.querySelectorAll('#top tbody tr')]
        .filter(row => row.classList.contains('match') !== row.entry.frame.name.includes(arguments[0]))
        .map(row => row.entry.frame.name);";

/// The time of the outermost nodes whose name contains a text, in nanoseconds: of all for an empty one, 0 before there
/// is a graph.
fn time_ns(browser: &Browser, name: &str) -> Result<f64> {
    let script = "
        const sum = node => node.name.includes(arguments[0]) ? node.value
            : node.children.reduce((total, child) => total + sum(child), 0);
        const root = d3.select('#flamegraph .canvas').datum();
        return root ? sum(root.data) : 0;";
    browser.script(script, &[name.into()])?.as_f64().context("a number")
}

/// In pixels.
#[derive(Debug)]
struct Widths {
    frame: f64,
    graph: f64,
}

/// The width of the widest frame of that name and of the whole, once it is drawn as wide as it shall be: it grows and
/// shrinks in steps.
fn settled(browser: &Browser, name: &str) -> Result<Widths> {
    let script = format!(
        "const found = (function () {{ {WIDEST} }})(arguments[0]);
        if (!found) return null;
        const item = d3.select(found).datum();
        const graph = document.querySelector('#flamegraph svg').width.baseVal.value;
        return [found.querySelector('rect').getBoundingClientRect().width, graph, (item.x1 - item.x0) * graph];"
    );
    let mut last = serde_json::Value::Null;
    let found = wait::until(&format!("the width of {name}"), SHOW_LIMIT, || {
        last = browser.script(&script, &[name.into()])?;
        let Ok([frame, graph, wanted]) = serde_json::from_value::<[f64; 3]>(last.clone()) else {
            return Ok(None);
        };
        Ok(((frame - wanted).abs() < EDGE_PX).then_some(Widths { frame, graph }))
    });
    found.with_context(|| format!("drawn, whole, wanted: {last}"))
}
