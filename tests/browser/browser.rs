//! A headless Chromium behind its own driver, called without async.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::process::Process;
use tests::{host, skip, wait};
use thirtyfour::prelude::*;
use thirtyfour::{ChromiumLikeCapabilities, LoggingPrefsLogLevel};
use tokio::runtime::Runtime;

const START_LIMIT: Duration = Duration::from_secs(60);
/// How long the page may take to show what is expected, on a machine with other things to do.
pub(crate) const SHOW_LIMIT: Duration = Duration::from_secs(30);
const QUIT_LIMIT: Duration = Duration::from_secs(10);
const CHROMIUM: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// What Chromium logs of such an answer.
const BUSY: &str = "the server responded with a status of 503";
const STARTED: &str = "started successfully on port ";
const FLAGS: [&str; 9] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    // Its shared memory may be too small in a container.
    "--disable-dev-shm-usage",
];

/// Both the browser and its driver are stopped when it is dropped.
#[derive(Debug)]
pub(crate) struct Browser {
    runtime: Runtime,
    session: Option<WebDriver>,
    driver: Process,
    _profile: TempDir,
}

impl Browser {
    /// `None` when there is no browser or driver here, which is said in the test's name.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(test: &str) -> Result<Option<Self>> {
        let Some(chromium) = CHROMIUM.iter().find_map(|name| host::find_program(name)) else {
            skip::skip(test, "no chromium");
            return Ok(None);
        };
        let Some(chromedriver) = host::find_program("chromedriver") else {
            skip::skip(test, "no chromedriver");
            return Ok(None);
        };
        let mut command = Command::new(chromedriver);
        command.arg("--port=0");
        let mut driver = Process::start(command)?;
        let line = driver.line(STARTED, START_LIMIT)?;
        let port = line.split(STARTED).nth(1).context("a port")?.trim_end_matches('.');

        let profile = tempfile::Builder::new().prefix("kovar-browser-").tempdir()?;
        let mut capabilities = DesiredCapabilities::chrome();
        capabilities.set_binary(chromium.to_str().context("a path in UTF-8")?)?;
        for flag in FLAGS {
            capabilities.add_arg(flag)?;
        }
        capabilities.add_arg(&format!("--user-data-dir={}", profile.path().display()))?;
        capabilities.set_browser_log_level(LoggingPrefsLogLevel::All)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let session = runtime.block_on(WebDriver::new(format!("http://127.0.0.1:{port}"), capabilities));
        let session = session.with_context(|| format!("{}{}", driver.stdout(), driver.stderr()))?;
        Ok(Some(Self { runtime, session: Some(session), driver, _profile: profile }))
    }

    /// Opens an address and waits until it is loaded.
    ///
    /// # Errors
    /// The driver's.
    pub(crate) fn open(&self, url: &str) -> Result<()> {
        self.block_on(async |session| session.goto(url).await).with_context(|| url.to_owned())
    }

    /// The address shown, with its query.
    ///
    /// # Errors
    /// The driver's.
    pub(crate) fn url(&self) -> Result<String> {
        self.block_on(async |session| session.current_url().await.map(String::from))
    }

    /// The window's inside, in pixels; a phone's has its own rules for the viewport.
    ///
    /// # Errors
    /// The driver's.
    pub(crate) fn resize(&self, width: u32, height: u32, is_phone: bool) -> Result<()> {
        let scale = if is_phone { 2 } else { 1 };
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": is_phone });
        self.command("Emulation.setDeviceMetricsOverride", metrics)
    }

    /// What the system is said to prefer: `light` or `dark`.
    ///
    /// # Errors
    /// The driver's.
    pub(crate) fn prefer(&self, scheme: &str) -> Result<()> {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.command("Emulation.setEmulatedMedia", json!({ "features": features }))
    }

    /// Clicks the middle of an element, where it must be seen; tries again while the page draws it anew.
    ///
    /// # Errors
    /// It cannot be clicked for long.
    pub(crate) fn click(&self, css: &str) -> Result<()> {
        let mut last = None;
        let done = wait::until(css, SHOW_LIMIT, || {
            let clicked = self.block_on(async |session| session.find(By::Css(css)).await?.click().await);
            last = clicked.err();
            Ok(last.is_none().then_some(()))
        });
        done.with_context(|| format!("click {css}: {last:?}"))
    }

    /// Like [`Self::click`], for the element that a script returns.
    ///
    /// # Errors
    /// It cannot be clicked for long, or there is none.
    pub(crate) fn click_found(&self, script: &str, arguments: &[Value]) -> Result<()> {
        let mut last = None;
        let done = wait::until("a click", SHOW_LIMIT, || {
            let clicked = self.block_on(async |session| {
                session.execute(script.to_owned(), arguments.to_vec()).await?.element()?.click().await
            });
            last = clicked.err();
            Ok(last.is_none().then_some(()))
        });
        done.with_context(|| format!("click what this returns: {script}: {last:?}"))
    }

    /// Types where the focus is. Special keys are [`Key`]s.
    ///
    /// # Errors
    /// The driver's.
    pub(crate) fn keys(&self, keys: impl Into<TypingData>) -> Result<()> {
        let keys = keys.into();
        self.block_on(async |session| session.action_chain().send_keys(keys).perform().await)
    }

    /// What a script returns; its arguments are `arguments[0]` and so on.
    ///
    /// # Errors
    /// The script threw.
    pub(crate) fn script(&self, script: &str, arguments: &[Value]) -> Result<Value> {
        let answer = self.block_on(async |session| {
            session.execute(script.to_owned(), arguments.to_vec()).await.map(|answer| answer.json().clone())
        });
        answer.with_context(|| script.to_owned())
    }

    /// The text of an element as a person sees it.
    ///
    /// # Errors
    /// There is no such element.
    pub(crate) fn text(&self, css: &str) -> Result<String> {
        let text = self.script("return document.querySelector(arguments[0]).innerText", &[json!(css)])?;
        text.as_str().map(str::to_owned).with_context(|| format!("{css} has no text"))
    }

    /// An attribute; empty when the element has none of that name.
    ///
    /// # Errors
    /// There is no such element.
    pub(crate) fn attribute(&self, css: &str, name: &str) -> Result<String> {
        let script = "return document.querySelector(arguments[0]).getAttribute(arguments[1])";
        let value = self.script(script, &[json!(css), json!(name)])?;
        Ok(value.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until an element's text is as wanted.
    ///
    /// # Errors
    /// It never is; the text names what it was last.
    pub(crate) fn wait_text(&self, css: &str, is_wanted: impl Fn(&str) -> bool) -> Result<String> {
        let mut last = String::new();
        let found = wait::until(&format!("the text of {css}"), SHOW_LIMIT, || {
            last = self.text(css)?;
            Ok(is_wanted(&last).then(|| last.clone()))
        });
        found.with_context(|| format!("it is {last:?}"))
    }

    /// Waits until the address is as wanted.
    ///
    /// # Errors
    /// It never is; the text names what it was last.
    pub(crate) fn wait_url(&self, is_wanted: impl Fn(&str) -> bool) -> Result<()> {
        let mut last = String::new();
        let found = wait::until("the address", SHOW_LIMIT, || {
            last = self.url()?;
            Ok(is_wanted(&last).then_some(()))
        });
        found.with_context(|| format!("it is {last}"))
    }

    /// The window as PNG.
    ///
    /// # Errors
    /// The driver's.
    pub(crate) fn screenshot(&self) -> Result<Vec<u8>> {
        self.block_on(async |session| session.screenshot_as_png().await)
    }

    /// Ends the session. Anything in the browser's log is an error of the page: a script's, a file that is not there,
    /// something that the content security policy forbids. Not so a busy collector's 503, after which the page asks
    /// again.
    ///
    /// # Errors
    /// The log is not empty.
    pub(crate) fn finish(self) -> Result<()> {
        let log = self.block_on(async |session| session.browser_log().await)?;
        let lines: Vec<String> = log
            .iter()
            .filter(|entry| !(entry.message.contains("/api/v1/") && entry.message.contains(BUSY)))
            .map(|entry| format!("{}: {}", entry.level, entry.message))
            .collect();
        ensure!(lines.is_empty(), "in the browser's log: {lines:#?}");
        Ok(())
    }

    fn command(&self, method: &str, parameters: Value) -> Result<()> {
        self.block_on(async |session| session.cdp().send_raw(method, parameters).await)?;
        Ok(())
    }

    fn block_on<T>(&self, call: impl AsyncFnOnce(&WebDriver) -> WebDriverResult<T>) -> Result<T> {
        let Some(session) = &self.session else { bail!("the session is over") };
        Ok(self.runtime.block_on(call(session))?)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            // A driver that does not answer is stopped next, and ends its browser.
            let _late =
                self.runtime.block_on(async { tokio::time::timeout(QUIT_LIMIT, session.quit()).await });
        }
        let _gone = self.driver.signal(libc::SIGTERM);
    }
}
