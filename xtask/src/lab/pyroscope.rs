//! The real Pyroscope server, everything in one process on this machine's disk.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::go_module::Recipe;
use super::run_dir::RunDir;
use super::{Stay, http, stop};
use crate::process::Server;

const READY_LIMIT: Duration = Duration::from_secs(120);

/// The newest server on the Go module proxy.
const RECIPE: Recipe = Recipe {
    name: "pyroscope",
    module: "github.com/grafana/pyroscope",
    version: "v1.0.0",
    package: "cmd/pyroscope",
    // It reaches into the runtime by go:linkname.
    ldflags: "-checklinkname=0",
    replace: &[
        ("github.com/grafana/pyroscope/api", "github.com/grafana/pyroscope/api v0.2.0"),
        ("github.com/pyroscope-io/godeltaprof", "./godeltaprof"),
    ],
    files: &[
        ("godeltaprof/go.mod", include_str!("godeltaprof/go.mod")),
        ("godeltaprof/godeltaprof.go", include_str!("godeltaprof/godeltaprof.go")),
        ("godeltaprof/http/pprof/pprof.go", include_str!("godeltaprof/pprof/pprof.go")),
    ],
    patches: &[],
};

pub(super) fn built() -> Option<PathBuf> {
    RECIPE.built()
}

pub(super) fn run(stay: Stay) -> Result<()> {
    let binary = RECIPE.build()?;
    if stay == Stay::UntilToldToStop {
        stop::watch_signals();
    }
    let dir = RunDir::create(RECIPE.name)?;
    let (http_port, grpc_port, gossip_port) = (http::free_port()?, http::free_port()?, http::free_port()?);
    let log = dir.log()?;
    let mut command = Command::new(binary);
    command.current_dir(dir.path()).stdin(Stdio::null());
    command.stdout(log.try_clone().context("the log")?).stderr(log);
    command.args([
        "-self-profiling.disable-push=true",
        "-usage-stats.enabled=false",
        "-storage.backend=filesystem",
        "-server.http-listen-address=127.0.0.1",
        "-server.grpc-listen-address=127.0.0.1",
        "-memberlist.bind-addr=127.0.0.1",
        "-memberlist.advertise-addr=127.0.0.1",
    ]);
    // Its parts call each other by the address each advertises, which otherwise is that of a network interface.
    command.args([
        "-distributor.ring.instance-addr=127.0.0.1",
        "-ingester.lifecycler.addr=127.0.0.1",
        "-overrides-exporter.ring.instance-addr=127.0.0.1",
        "-query-frontend.instance-addr=127.0.0.1",
        "-query-scheduler.ring.instance-addr=127.0.0.1",
        "-store-gateway.sharding-ring.instance-addr=127.0.0.1",
    ]);
    command.arg(format!("-storage.filesystem.dir={}", dir.path().join("shared").display()));
    command.arg(format!("-pyroscopedb.data-path={}", dir.path().join("data").display()));
    command.arg(format!("-server.http-listen-port={http_port}"));
    command.arg(format!("-server.grpc-listen-port={grpc_port}"));
    command.arg(format!("-memberlist.bind-port={gossip_port}"));

    let mut server = match stay {
        Stay::UntilToldToStop => Server::start(&mut command)?,
        Stay::LeaveRunning => Server::start_untied(&mut command)?,
    };
    dir.set_server(server.pid())?;
    http::wait_ready("Pyroscope", &mut server, http_port, "/ready", READY_LIMIT)
        .with_context(|| dir.log_tail())?;
    println!("url=http://127.0.0.1:{http_port}");
    println!("pid={}", server.pid());
    match stay {
        Stay::UntilToldToStop => stop::wait(&mut server)?,
        Stay::LeaveRunning => {
            println!("log={}", dir.log_path().display());
            server.detach();
            dir.keep();
        }
    }
    Ok(())
}
