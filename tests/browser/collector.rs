//! A collector with something to show.

use anyhow::Result;
use tempfile::TempDir;
use tests::kovar::Running;
use tests::process::Process;
use tests::program::Program;
use tests::{host, skip, wait};

use crate::Browser;
use crate::browser::SHOW_LIMIT;

/// The name of the process that keeps the machine busy, by `dispatch`, `work_a`, `work_b` and `work_c`.
pub(crate) const PROCESS: &str = "page-split";
/// Until it is stopped.
const SECONDS: &str = "100000";

/// All of it is stopped when it is dropped.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) kovar: Running,
    _load: Process,
    _program: Program,
    _storage: TempDir,
}

impl Collector {
    /// `None` without the right to profile, which is said in the test's name.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(test: &str) -> Result<Option<Self>> {
        if !host::is_root() {
            skip::skip(test, "needs root");
            return Ok(None);
        }
        let storage = tempfile::tempdir()?;
        let kovar = Running::start(storage.path(), "profiler: {push_interval: 5s}")?;
        let program = Program::split_as(PROCESS)?;
        let load = program.start(&[SECONDS])?;
        Ok(Some(Self { kovar, _load: load, _program: program, _storage: storage }))
    }

    /// Opens the page with a query, and waits until its flame graph shows the program's work.
    ///
    /// # Errors
    /// It never does.
    pub(crate) fn open(&self, browser: &Browser, query: &str) -> Result<()> {
        browser.open(&format!("{}/?{query}", self.kovar.url()))?;
        wait::until("frames of the program", SHOW_LIMIT, || {
            let names = frames(browser)?;
            Ok(["dispatch", "work_a", "work_b"].iter().all(|name| names.contains(*name)).then_some(()))
        })
    }

    /// Like [`Self::open`], then [`Self::pause`], so that what is drawn stays.
    ///
    /// # Errors
    /// It never shows them.
    pub(crate) fn open_paused(&self, browser: &Browser, query: &str) -> Result<()> {
        self.open(browser, query)?;
        self.pause(browser)
    }

    /// Stops the open page from reading again.
    ///
    /// # Errors
    /// It goes on.
    pub(crate) fn pause(&self, browser: &Browser) -> Result<()> {
        browser.click("#live")?;
        browser.wait_text("#live", |text| text == "Paused")?;
        // It reads once more when it is paused.
        wait::until("the last answer", SHOW_LIMIT, || {
            let loading = browser.script("return document.body.classList.contains('loading')", &[])?;
            Ok((loading == false).then_some(()))
        })
    }
}

/// Names of the frames that are drawn.
///
/// # Errors
/// The driver's.
pub(crate) fn frames(browser: &Browser) -> Result<std::collections::BTreeSet<String>> {
    let script =
        "return [...document.querySelectorAll('#flamegraph g.frame')].map(g => g.getAttribute('name'))";
    Ok(serde_json::from_value(browser.script(script, &[])?)?)
}
