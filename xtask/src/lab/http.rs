//! The least of HTTP that tells whether a server is ready.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::stop;
use crate::process::Server;

const REQUEST_LIMIT: Duration = Duration::from_secs(2);
const RETRY_INTERVAL: Duration = Duration::from_millis(200);
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
const STATUS_LINE_BYTES: u64 = 12;

/// A port that was free a moment ago.
pub(super) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr().context("the address of a listener")?.port())
}

/// Waits until the path answers 200.
///
/// # Errors
/// When the server ends, this process is told to stop, or `limit` passes.
pub(super) fn wait_ready(
    what: &str,
    server: &mut Server,
    port: u16,
    path: &str,
    limit: Duration,
) -> Result<()> {
    let start = Instant::now();
    let mut report = start + REPORT_INTERVAL;
    loop {
        if status(port, path) == Some(200) {
            return Ok(());
        }
        if let Some(status) = server.exited() {
            bail!("{what} ended before it was ready ({status})");
        }
        if stop::is_told() {
            bail!("told to stop before {what} was ready");
        }
        let elapsed = start.elapsed();
        if elapsed > limit {
            bail!("{what} was not ready after {} s", limit.as_secs());
        }
        if Instant::now() >= report {
            eprintln!("  {what}: not ready after {} s", elapsed.as_secs());
            report += REPORT_INTERVAL;
        }
        std::thread::sleep(RETRY_INTERVAL);
    }
}

fn status(port: u16, path: &str) -> Option<u16> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, REQUEST_LIMIT).ok()?;
    stream.set_read_timeout(Some(REQUEST_LIMIT)).ok()?;
    // In one piece: a server that answers at the first one and closes refuses the rest, and the answer is lost.
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut line = String::new();
    stream.take(STATUS_LINE_BYTES).read_to_string(&mut line).ok()?;
    line.strip_prefix("HTTP/1.1 ")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_an_answer_is_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 256];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").unwrap();
        });
        assert_eq!(status(port, "/ready"), Some(503));
        server.join().unwrap();
    }
}
