//! What is shown: the range, the filters, the grouping, the order of the table.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::wait;

use crate::browser::SHOW_LIMIT;
use crate::collector::{PROCESS, frames};
use crate::{Browser, Collector};

#[test]
fn ranges_filters_and_groups_change_what_is_shown() -> Result<()> {
    let test = "ranges_filters_and_groups_change_what_is_shown";
    let Some(browser) = Browser::start(test)? else { return Ok(()) };
    let Some(collector) = Collector::start(test)? else { return Ok(()) };
    collector.open(&browser, "")?;

    let five_minutes = browser.wait_text("#range-text", |text| text.contains("5 min"))?;
    browser.click("label:has(#range-1h)")?;
    browser.wait_url(|url| url.contains("from=now-1h"))?;
    browser.wait_text("#range-text", |text| text != five_minutes && text.contains("60 min"))?;
    ensure!(browser.script("return document.querySelector('#range-1h').checked", &[])? == true);

    // kovar itself and the browser have run as well.
    wait::until("several processes", SHOW_LIMIT, || Ok((groups(&browser)?.len() > 1).then_some(())))?;
    browser.click("#process")?;
    browser.click(&format!("#process-list li[data-value={PROCESS}]"))?;
    browser.wait_url(|url| url.contains(&format!("process={PROCESS}")))?;
    wait::until("one process", SHOW_LIMIT, || Ok((groups(&browser)? == [PROCESS]).then_some(())))?;

    browser.click("label:has(#frames-kernel)")?;
    browser.wait_url(|url| url.contains("frames=kernel"))?;
    wait::until("no frame of the program", SHOW_LIMIT, || {
        let names = frames(&browser)?;
        Ok((!names.contains("dispatch") && names.len() > 2).then_some(()))
    })?;
    browser.click("#clear")?;
    browser.wait_url(|url| !url.contains("frames=") && !url.contains("process="))?;

    browser.click("#group option[value=container]")?;
    browser.wait_url(|url| url.contains("group=container"))?;
    wait::until("groups by container", SHOW_LIMIT, || {
        let groups = groups(&browser)?;
        Ok((!groups.is_empty() && groups.iter().all(|name| name != PROCESS)).then_some(()))
    })?;
    browser.finish()
}

#[test]
fn the_table_is_sorted_by_its_heads() -> Result<()> {
    let test = "the_table_is_sorted_by_its_heads";
    let Some(browser) = Browser::start(test)? else { return Ok(()) };
    let Some(collector) = Collector::start(test)? else { return Ok(()) };
    collector.open_paused(&browser, &format!("process={PROCESS}"))?;

    let by_self = column(&browser, "self")?;
    ensure!(by_self.len() > 4 && by_self.is_sorted_by(|a, b| a >= b), "by self: {by_self:?}");
    ensure!(browser.attribute("#top th[data-sort=self]", "aria-sort")? == "descending");
    browser.click("#top th[data-sort=total] button")?;
    browser.wait_url(|url| url.contains("sort=-total"))?;
    let by_total = column(&browser, "total")?;
    ensure!(
        by_total.is_sorted_by(|a, b| a >= b) && by_total.len() == by_self.len(),
        "by total: {by_total:?}"
    );
    browser.click("#top th[data-sort=total] button")?;
    browser.wait_url(|url| url.contains("sort=total"))?;
    ensure!(browser.attribute("#top th[data-sort=total]", "aria-sort")? == "ascending");
    let ascending = column(&browser, "total")?;
    ensure!(ascending.is_sorted() && ascending[0] < by_total[0], "ascending: {ascending:?}");

    browser.click("#top th[data-sort=self] button")?;
    browser.wait_url(|url| !url.contains("sort="))?;
    let first = browser.text("#top tbody tr:first-child .name")?;
    browser.click("#top tbody tr:first-child .name button")?;
    browser.wait_text("#focus-name", |name| name == first.trim())?;
    browser.wait_text("#match", |text| text.contains('%'))?;
    browser.finish()
}

/// Names of the frames below the root.
fn groups(browser: &Browser) -> Result<Vec<String>> {
    let script =
        "return d3.selectAll('#flamegraph g.frame').data().filter(d => d.depth === 1).map(d => d.data.name)";
    Ok(serde_json::from_value(browser.script(script, &[])?)?)
}

/// Times of the table's rows, nanoseconds.
fn column(browser: &Browser, name: &str) -> Result<Vec<u64>> {
    let script = "return [...document.querySelectorAll('#top tbody tr')].map(row => row.entry[arguments[0]])";
    let values = browser.script(script, &[name.into()])?;
    values.as_array().context("rows")?.iter().map(|it| Value::as_u64(it).context("a number")).collect()
}
