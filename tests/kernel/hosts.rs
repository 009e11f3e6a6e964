//! `kovar run` on hosts and with settings that are not as they should be.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::kovar::{self, Running};
use tests::{http, wait};

const LIMIT: Duration = Duration::from_secs(60);
/// Everything has ended this long after the order to stop.
const GRACE: Duration = Duration::from_secs(10);

/// `kovar run` with this configuration, to its end; what it says on standard error.
fn refused(configuration: &str) -> Result<String> {
    let dir = tempfile::tempdir()?;
    let config = dir.path().join("kovar.yaml");
    fs::write(&config, configuration)?;
    let ended = kovar::finish(&["run", "--config", config.to_str().context("a path")?], LIMIT)?;
    ensure!(ended.code() == Some(1), "{ended:?}");
    ensure!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    Ok(ended.stderr)
}

#[test]
fn a_port_in_use_is_named_with_its_setting() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let dir = tempfile::tempdir()?;
    let stderr =
        refused(&format!("storage: {{path: {:?}}}\nui: {{listen: '127.0.0.1:{port}'}}\n", dir.path()))?;
    ensure!(stderr.contains("ui.listen") && stderr.contains(&format!("port {port} is in use")), "{stderr}");
    Ok(())
}

#[test]
fn an_unknown_setting_is_named_with_its_line_and_the_one_that_was_meant() -> Result<()> {
    let stderr = refused("profiler:\n  rate_hz: 97\n  drain_intervall: 1s\n")?;
    ensure!(stderr.contains("unknown setting `profiler.drain_intervall`"), "{stderr}");
    ensure!(stderr.contains("did you mean `drain_interval`?"), "{stderr}");
    ensure!(stderr.contains("kovar.yaml:3"), "{stderr}");
    Ok(())
}

#[test]
fn an_unreachable_backend_is_counted_named_and_bounded_and_nothing_else_suffers() -> Result<()> {
    // A port that refuses: bound, so that nobody else takes it, and not listened on.
    let closed = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let url = format!("http://{}", closed.local_addr()?);
    let dir = tempfile::tempdir()?;
    let settings = format!(
        "profiler: {{push_interval: 5s}}\nqueue: {{max_bytes: 8MiB}}\n\
         destinations: {{pyroscope: [{{name: away, url: {url:?}}}]}}"
    );
    let running = Running::start(dir.path(), &settings)?;
    let away = "destination=\"away\"";
    let of = |name: &str, labels: &str| -> Result<f64> {
        running.metric(name, labels)?.with_context(|| format!("no {name}{{{labels}}}"))
    };
    wait::until("retries", LIMIT, || Ok((of("kovar_outlet_retries_total", away)? >= 2.0).then_some(())))?;
    ensure!(of("kovar_outlet_sent_records_total", away)? == 0.0, "nothing can have been sent");
    ensure!(of("kovar_outlet_retrying", away)? == 1.0, "it is trying again");
    wait::until("the store's copy", LIMIT, || {
        Ok((of("kovar_outlet_sent_records_total", "destination=\"store\"")? >= 2.0).then_some(()))
    })?;
    ensure!(of("kovar_queue_pending_records", away)? >= 2.0, "they wait");
    ensure!(of("kovar_queue_limit_bytes", "")? == f64::from(8 << 20), "the limit is as configured");
    ensure!(of("kovar_queue_held_bytes", "")? <= f64::from(8 << 20), "the queue is bounded");
    let status = running.json("/api/v1/status")?;
    let destinations = status["destinations"].as_array().context("destinations")?;
    let entry = destinations.iter().find(|it| it["name"] == "away").context("away")?;
    ensure!(entry["state"] == "retrying", "{entry}");
    ensure!(entry["last_error"].as_str().is_some_and(|text| text.contains("Connection refused")), "{entry}");
    let ended = running.stop()?;
    ensure!(ended.code() == Some(0), "{ended:?}");
    Ok(())
}

#[test]
fn an_order_to_stop_ends_it_with_0_within_the_grace_period() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut running = Running::start(dir.path(), "")?;
    let start = std::time::Instant::now();
    running.process().signal(libc::SIGTERM)?;
    let status = wait::until("the end", GRACE + Duration::from_secs(2), || running.process().ended())?;
    ensure!(status.code() == Some(0), "{status}");
    ensure!(start.elapsed() < GRACE, "it took {:?}", start.elapsed());
    Ok(())
}

#[test]
fn a_reload_of_a_broken_file_keeps_the_configuration_and_says_what_is_wrong() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut running =
        Running::start(dir.path(), "destinations: {pyroscope: [{name: one, url: 'http://127.0.0.1:9'}]}")?;
    let good = fs::read_to_string(running.config())?;
    let names = |running: &Running| -> Result<Vec<String>> {
        let status = running.json("/api/v1/status")?;
        let all = status["destinations"].as_array().context("destinations")?;
        Ok(all
            .iter()
            .filter_map(|it| it["name"].as_str())
            .filter(|it| *it != "store")
            .map(str::to_owned)
            .collect())
    };
    fs::write(running.config(), good.replace("name: one", "nam: one"))?;
    running.process().signal(libc::SIGHUP)?;
    running.process().line("unknown setting", LIMIT)?;
    ensure!(names(&running)? == ["one"], "{:?}", names(&running)?);
    let answer = http::post(running.address(), "/-/reload", "text/plain", b"")?;
    ensure!(answer.status == 400 && answer.text().contains("did you mean `name`"), "{}", answer.text());
    ensure!(running.get("/-/healthy")?.status == 200, "{}", running.get("/-/healthy")?.text());

    // The same way takes a file that is right.
    fs::write(running.config(), good.replace("name: one", "name: two"))?;
    running.process().signal(libc::SIGHUP)?;
    wait::until("the new configuration", LIMIT, || Ok((names(&running)? == ["two"]).then_some(())))
}
