//! A Pyroscope that is away and comes back.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::kovar::Running;
use tests::process::Process;
use tests::program::Program;
use tests::{host, skip, wait};

use crate::pyroscope::{Pyroscope, own_functions};
use crate::relay::Relay;

/// The least that the configuration allows.
const QUEUE_BYTES: u64 = 8 << 20;
/// What the whole of kovar may take; the documentation's smallest limit of a container.
const RESIDENT_BYTES_MAX: f64 = 256.0 * 1024.0 * 1024.0;
const QUEUE_FULL_LIMIT: Duration = Duration::from_secs(300);
/// The longest wait between two attempts, and what is sent after it.
const BACK_LIMIT: Duration = Duration::from_secs(360);
const PUSH_LIMIT: Duration = Duration::from_secs(60);
const DESTINATION: &str = "destination=\"away\"";

#[test]
fn what_pyroscope_missed_arrives_and_what_the_queue_cannot_hold_is_counted() -> Result<()> {
    if !host::is_root() {
        let test = "what_pyroscope_missed_arrives_and_what_the_queue_cannot_hold_is_counted";
        skip::skip(test, "needs root");
        return Ok(());
    }
    let pyroscope = Pyroscope::start()?;
    let address = Relay::free_address()?;
    let storage = tempfile::tempdir()?;
    // Many samples make a large batch, a short time-out many attempts.
    let settings = format!(
        "profiler: {{rate_hz: 1000, push_interval: 5s}}\nqueue: {{max_bytes: {QUEUE_BYTES}B}}\n\
         destinations: {{pyroscope: [{{name: away, url: \"http://{address}\", timeout: 2s}}]}}",
    );
    let mut kovar = Running::start(storage.path(), &settings)?;
    let held = Program::split_as("held-split")?;
    held.start(&["6"])?.finish(Duration::from_secs(60))?.success()?;
    wait::until("a push that failed", PUSH_LIMIT, || {
        let failed = value(&kovar, "kovar_outlet_retries_total")? > 0.0;
        Ok((failed && value(&kovar, "kovar_queue_pending_items")? > 0.0).then_some(()))
    })?;

    let _relay = Relay::open(address, pyroscope.address())?;
    wait::until("what was held at the start", BACK_LIMIT, || {
        let (own, pushed) = (own_functions(&kovar, "held-split")?, pyroscope.functions("held-split")?);
        Ok((pushed.total_ns > 0 && own.total_ns == pushed.total_ns).then_some(()))
    })?;
    ensure!(value(&kovar, "kovar_queue_lost_items_total")? == 0.0, "items were lost while there was room");

    let names = Program::compile("names.c", &["-O1"])?;
    let stopped = Stopped::stop(pyroscope.pid()?)?;
    // Together within the 5,000 series that this Pyroscope takes of one tenant.
    let load: Vec<Process> =
        ["0", "1000"].into_iter().map(|first| names.start(&["100000", first])).collect::<Result<_>>()?;
    wait::until("a full queue", QUEUE_FULL_LIMIT, || {
        stays_bounded(&kovar)?;
        Ok((value(&kovar, "kovar_queue_lost_items_total")? > 0.0).then_some(()))
    })?;
    drop(load);
    ensure!(kovar.process().ended()?.is_none(), "kovar ended");

    drop(stopped);
    wait::until("an empty queue", BACK_LIMIT, || {
        stays_bounded(&kovar)?;
        Ok((value(&kovar, "kovar_queue_pending_records")? == 0.0).then_some(()))
    })?;
    every_item_is_accounted_for(&kovar)?;
    let back = Program::split_as("back-split")?;
    back.start(&["6"])?.finish(Duration::from_secs(60))?.success()?;
    wait::until("what came afterwards", PUSH_LIMIT, || {
        Ok((pyroscope.functions("back-split")?.total_ns > 0).then_some(()))
    })?;
    ensure!(kovar.stop()?.code() == Some(0), "kovar did not stop cleanly");
    Ok(())
}

fn stays_bounded(kovar: &Running) -> Result<()> {
    let held_bytes = kovar.metric("kovar_queue_held_bytes", "")?.context("held bytes")?;
    ensure!(held_bytes <= QUEUE_BYTES as f64, "{held_bytes} bytes in the queue");
    let resident_bytes = kovar.metric("kovar_process_resident_bytes", "")?.context("resident bytes")?;
    ensure!(resident_bytes <= RESIDENT_BYTES_MAX, "{resident_bytes} bytes resident");
    Ok(())
}

/// Pushed is sent, lost or pending; the numbers are read one after another, so that a push may fall between them.
fn every_item_is_accounted_for(kovar: &Running) -> Result<()> {
    wait::until("an account of every item", PUSH_LIMIT, || {
        let pushed = kovar.metric("kovar_queue_pushed_items_total", "")?.context("pushed")?;
        let sent = value(kovar, "kovar_outlet_sent_items_total")?;
        let lost = value(kovar, "kovar_queue_lost_items_total")?;
        let pending = value(kovar, "kovar_queue_pending_items")?;
        Ok((pushed == sent + lost + pending).then_some(()))
    })?;
    let dropped = value(kovar, "kovar_outlet_dropped_items_total")?;
    ensure!(dropped == 0.0, "Pyroscope refused {dropped} items for good");
    Ok(())
}

fn value(kovar: &Running, name: &str) -> Result<f64> {
    kovar.metric(name, DESTINATION)?.with_context(|| format!("no {name} of the destination"))
}

/// A process that does not run until this is dropped.
struct Stopped {
    pid: i32,
}

impl Stopped {
    fn stop(pid: i32) -> Result<Self> {
        send(pid, libc::SIGSTOP)?;
        Ok(Self { pid })
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // One that has gone needs it no more.
        let _gone = send(self.pid, libc::SIGCONT);
    }
}

fn send(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: kill takes integers only; the process belongs to a lab that is still held.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()).with_context(|| format!("signal {signal} to {pid}")),
    }
}
