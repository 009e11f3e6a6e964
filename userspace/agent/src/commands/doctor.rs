//! `kovar doctor`: what this host gives and lacks, as a table.

use crate::config::{Config, Destination};
use crate::storage;
use anyhow::{Context, bail};
use bytes::Bytes;
use profiler::host::{Finding, Host, State};
use std::io::Write;
use std::path::Path;
use std::time::Duration;
use transport::Server;
use transport::{ClientConfig, HttpClient, Url};

/// A destination that has not answered by then is called unreachable.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Probes everything and prints the table.
///
/// # Errors
/// A configuration that cannot be read, or a finding that profiling cannot work.
pub(crate) fn run(file: Option<&Path>) -> anyhow::Result<()> {
    let config = Config::load(file)?;
    let mut findings = Host::probe().findings();
    findings.push(storage_finding(&config));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        findings.push(port_finding(&config).await);
        for destination in &config.pyroscope {
            findings.push(destination_finding(destination).await);
        }
    });
    std::io::stdout().lock().write_all(table(&findings).as_bytes())?;
    let missing: Vec<&str> =
        findings.iter().filter(|it| it.state == State::Missing).map(|finding| finding.name).collect();
    if !missing.is_empty() {
        bail!("profiling cannot work on this host: {}", missing.join(", "));
    }
    Ok(())
}

fn storage_finding(config: &Config) -> Finding {
    let path = config.storage.path.display();
    match storage::check_writable(&config.storage.path) {
        Ok(()) => finding("storage", State::Works, format!("{path} can be written"), None),
        Err(error) if config.storage.path_is_configured => finding(
            "storage",
            State::Missing,
            format!("{error:#}"),
            Some("give the directory to this user, or set storage.path"),
        ),
        Err(error) => finding(
            "storage",
            State::Degraded,
            format!("{error:#}; a temporary directory is used"),
            Some("run as root, or set storage.path"),
        ),
    }
}

async fn port_finding(config: &Config) -> Finding {
    match Server::bind("ui.listen", config.listen).await {
        Ok(_) => finding("port", State::Works, format!("{} is free", config.listen), None),
        Err(error) => finding(
            "port",
            State::Degraded,
            error.to_string(),
            Some("needed by `kovar run` only; it may be a kovar that runs already"),
        ),
    }
}

/// Sends an empty push, which is valid, stores nothing and goes through everything a real one goes through.
async fn destination_finding(destination: &Destination) -> Finding {
    let answer = async {
        let url = Url::parse("url", destination.url.as_str())?.with_path("push.v1.PusherService/Push");
        let config = ClientConfig {
            timeout: destination.client.timeout.min(ANSWER_MAX),
            ..destination.client.clone()
        };
        let headers = [("content-type", "application/proto"), ("connect-protocol-version", "1")];
        HttpClient::new(config)?.post(&url, &headers, Bytes::new()).await
    };
    let shown = format!("{} ({})", destination.name, destination.url.as_str());
    let (state, detail, remedy) = match answer.await {
        Ok(response) if (200..300).contains(&response.status) => {
            (State::Works, format!("{shown} answers"), None)
        }
        Ok(response) => (
            State::Degraded,
            format!("{shown} answers with status {}", response.status),
            Some("check url, tenant and credentials of the destination"),
        ),
        Err(error) => (
            State::Degraded,
            format!("{shown}: {error}"),
            Some("check the destination's url and that it runs; profiles wait in memory until then"),
        ),
    };
    finding("destination", state, detail, remedy)
}

fn finding(name: &'static str, state: State, detail: String, remedy: Option<&str>) -> Finding {
    Finding { name, state, detail, remedy: remedy.map(str::to_owned) }
}

fn table(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for finding in findings {
        let state = match finding.state {
            State::Works => "works",
            State::Degraded => "less",
            State::Missing => "MISSING",
        };
        let indent = " ".repeat(width + 11);
        let detail = finding.detail.replace('\n', &format!("\n{indent}"));
        out.push_str(&format!("{:width$}  {state:7}  {detail}\n", finding.name));
        if let Some(remedy) = &finding.remedy {
            out.push_str(&format!("{indent}-> {}\n", remedy.replace('\n', &format!("\n{indent}   "))));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{destination_finding, finding, table};
    use crate::config::Config;
    use profiler::host::State;

    #[test]
    fn the_table_is_aligned_and_shows_remedies() {
        let text = table(&[
            finding("btf", State::Works, "there".into(), None),
            finding("capabilities", State::Missing, "no CAP_BPF".into(), Some("run as root")),
        ]);
        assert_eq!(
            text,
            "btf           works    there\ncapabilities  MISSING  no CAP_BPF\n                       -> run as root\n"
        );
    }

    #[tokio::test]
    async fn a_destination_that_is_away_is_named_and_does_not_stop_profiling() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let text = format!("destinations: {{pyroscope: [{{name: p, url: 'http://127.0.0.1:{port}'}}]}}");
        let config = Config::parse("test", &text, &|_| None).expect("valid");
        let found = destination_finding(&config.pyroscope[0]).await;
        assert_eq!(found.state, State::Degraded);
        assert!(found.detail.contains("cannot connect"), "{}", found.detail);
    }
}
