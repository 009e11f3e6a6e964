//! Today's Pyroscope is not to be had as a server, but its protocol is: pushes go through its generated handler, and each
//! profile through Go's own decoder.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::kovar::Running;
use tests::process::{self, Process};
use tests::program::Program;
use tests::{host, skip, wait};

const TEST: &str = "todays_push_service_takes_every_profile";
const PROCESS: &str = "connect-split";
/// Modules are downloaded and compiled the first time.
const BUILD_LIMIT: Duration = Duration::from_secs(600);
const PUSH_LIMIT: Duration = Duration::from_secs(60);
const TENANT: &str = "team-a";

#[test]
fn todays_push_service_takes_every_profile() -> Result<()> {
    if !host::is_root() {
        skip::skip(TEST, "needs root");
        return Ok(());
    }
    let Some(go) = host::find_program("go") else {
        skip::skip(TEST, "no go to build the receiver with");
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let mut pusher = Process::start(Command::new(build(&go, dir.path())?))?;
    let listening = pusher.line("listen=", Duration::from_secs(30))?;
    let address = listening.strip_prefix("listen=").context("no address")?;

    let storage = tempfile::tempdir()?;
    let settings = format!(
        "profiler: {{push_interval: 5s}}\n\
         destinations: {{pyroscope: [{{name: today, url: \"http://{address}\", tenant: {TENANT}}}]}}"
    );
    let kovar = Running::start(storage.path(), &settings)?;
    Program::split_as(PROCESS)?.start(&["8"])?.finish(Duration::from_secs(60))?.success()?;

    let line = wait::until("a profile of the program", PUSH_LIMIT, || {
        let lines = pusher.stdout();
        let complete = &lines[..lines.rfind('\n').map_or(0, |end| end + 1)];
        let series = complete.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(series.rev().find(is_of_the_program))
    })
    .with_context(|| pusher.stderr())?;
    ensure!(line["protocol"] == "connect" && line["tenant"] == TENANT, "{line}");
    ensure!(line["types"] == serde_json::json!(["cpu/nanoseconds"]), "{line}");
    ensure!(line["period_ns"].as_u64() == Some(1_000_000_000 / 97), "{line}");
    ensure!(line["labels"]["service_name"] == PROCESS && line["labels"]["node"].is_string(), "{line}");
    let function_ns = |name: &str| line["functions_ns"][name].as_u64().unwrap_or_default();
    let works = ["work_a", "work_b", "work_c"].map(function_ns);
    ensure!(
        works.is_sorted_by(|a, b| a > b) && works.iter().sum::<u64>() <= function_ns("dispatch"),
        "{line}"
    );

    let sent = kovar.metric("kovar_outlet_sent_items_total", "destination=\"today\"")?;
    ensure!(sent.is_some_and(|sent| sent > 0.0), "{sent:?} items sent");
    let dropped = kovar.metric("kovar_outlet_dropped_items_total", "destination=\"today\"")?;
    ensure!(dropped == Some(0.0) && pusher.stderr().is_empty(), "{dropped:?} dropped: {}", pusher.stderr());
    ensure!(kovar.stop()?.code() == Some(0), "kovar did not stop cleanly");
    Ok(())
}

/// Of one of its intervals with all three functions in it.
fn is_of_the_program(series: &Value) -> bool {
    series["labels"]["process_name"] == PROCESS && series["functions_ns"]["work_c"].is_u64()
}

fn build(go: &Path, dir: &Path) -> Result<std::path::PathBuf> {
    let binary = dir.join("pusher");
    let mut command = Command::new(go);
    command.args(["build", "-o"]).arg(&binary).arg(".");
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("backends/pusher"));
    process::finish(command, BUILD_LIMIT)?.success().context("go build")?;
    Ok(binary)
}
