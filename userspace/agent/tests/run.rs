//! `kovar run` from the outside, with the profiler off: endpoints, reload, stop. Nothing here needs privileges.
#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

const WAIT_MAX: Duration = Duration::from_secs(30);

/// A running collector; killed when it goes out of scope.
struct Kovar {
    child: Child,
    lines: Receiver<String>,
    address: SocketAddr,
    directory: tempfile::TempDir,
}

impl Kovar {
    fn start(more: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        write_config(&directory, more);
        let mut child = Command::new(env!("CARGO_BIN_EXE_kovar"))
            .args(["run", "--config"])
            .arg(directory.path().join("kovar.yaml"))
            .env_remove("KOVAR_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .expect("kovar starts");
        let stderr = child.stderr.take().expect("a pipe");
        let (sender, lines) = sync_channel(10_000);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut kovar = Self { child, lines, address: ([127, 0, 0, 1], 0).into(), directory };
        let line = kovar.line("kovar runs");
        let listen =
            line.split("listen=").nth(1).and_then(|rest| rest.split(' ').next()).expect("an address");
        kovar.address = listen.parse().expect("an address");
        kovar
    }

    /// The next line of the log with `text` in it.
    fn line(&mut self, text: &str) -> String {
        let deadline = Instant::now() + WAIT_MAX;
        let mut seen = String::new();
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if line.contains(text) {
                return line;
            }
            seen.push_str(&line);
            seen.push('\n');
        }
        panic!("no `{text}` in the log:\n{seen}")
    }

    fn request(&self, method: &str, path: &str) -> (u16, String) {
        let (status, _, body) = self.request_with(method, path, "host: kovar\r\n");
        (status, body)
    }

    /// Status, header and body of the answer to a request with these lines in its header.
    fn request_with(&self, method: &str, path: &str, lines: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).expect("connected");
        stream.set_read_timeout(Some(WAIT_MAX)).expect("a timeout");
        write!(stream, "{method} {path} HTTP/1.1\r\n{lines}connection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        let (header, body) = answer.split_once("\r\n\r\n").expect("a header");
        (status, header.to_owned(), body.to_owned())
    }

    fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        // SAFETY: kill takes no pointers; the pid is that of our own child, which has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + WAIT_MAX;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("a status") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("kovar did not stop")
    }
}

impl Drop for Kovar {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn write_config(directory: &tempfile::TempDir, more: &str) {
    let store = directory.path().join("store");
    let text = format!(
        "node: {{name: n1}}\nprofiler: {{enabled: false}}\nui: {{listen: '127.0.0.1:0'}}\nstorage: {{path: {}}}\n{more}",
        store.display()
    );
    std::fs::write(directory.path().join("kovar.yaml"), text).expect("write");
}

#[test]
fn its_endpoints_answer_and_it_stops_with_exit_code_0() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut kovar = Kovar::start("");
        assert_eq!(kovar.request("GET", "/-/ready"), (200, "ready\n".to_owned()));
        assert_eq!(kovar.request("GET", "/-/healthy"), (200, "healthy\n".to_owned()));
        let (status, page) = kovar.request("GET", "/metrics");
        assert_eq!(status, 200);
        assert_eq!(page.matches("# TYPE kovar_process_resident_bytes gauge\n").count(), 1, "{page}");
        assert!(
            page.contains("kovar_queue_pending_records{signal=\"profiles\",destination=\"store\"} 0\n"),
            "{page}"
        );
        let (status, json) = kovar.request("GET", "/api/v1/status");
        assert!(status == 200 && json.contains("\"node\":\"n1\""), "{json}");
        kovar.signal(signal);
        assert_eq!(kovar.exit_code(), Some(0));
    }
}

#[test]
fn a_reload_applies_what_can_change_and_names_what_cannot() {
    let mut kovar = Kovar::start("");
    write_config(
        &kovar.directory,
        "destinations: {pyroscope: [{name: p, url: 'http://127.0.0.1:1'}]}\nqueue: {max_bytes: 64MiB}\n",
    );
    let (status, text) = kovar.request("POST", "/-/reload");
    assert_eq!(status, 200);
    assert!(text.contains("1 added, 0 changed, 0 removed"), "{text}");
    assert!(text.contains("only after a restart: queue.max_bytes"), "{text}");
    assert!(kovar.request("GET", "/metrics").1.contains("destination=\"p\""));

    write_config(&kovar.directory, "destinations: {pyroscope: [{}]}\nlog: {level: loud}\n");
    let (status, text) = kovar.request("POST", "/-/reload");
    assert_eq!(status, 400);
    assert!(
        text.contains(":5:28: `destinations.pyroscope[0].url` is missing")
            && text.contains(":6:14: `log.level`"),
        "{text}"
    );
    assert!(kovar.request("GET", "/metrics").1.contains("destination=\"p\""));

    write_config(&kovar.directory, "");
    kovar.signal(libc::SIGHUP);
    kovar.line("0 added, 0 changed, 1 removed");
    assert_eq!(kovar.request("GET", "/-/reload").0, 405);
}

#[test]
fn a_page_of_another_site_can_neither_read_profiles_nor_reload() {
    let kovar = Kovar::start("");
    let rebound = "host: evil.example:12345\r\n";
    for path in ["/", "/api/v1/status", "/api/v1/profile"] {
        let (status, header, text) = kovar.request_with("GET", path, rebound);
        assert!(status == 421 && text.contains("use the IP address"), "{path} {status} {text}");
        assert!(header.contains("x-frame-options: DENY"), "{header}");
        assert_eq!(kovar.request_with("GET", path, "host: 127.0.0.1:12345\r\n").0, 200);
    }
    for path in ["/-/ready", "/-/healthy", "/metrics"] {
        let (status, header, _) = kovar.request_with("GET", path, rebound);
        assert!(status == 200 && header.contains("x-content-type-options: nosniff"), "{path} {header}");
    }
    let lines = "host: localhost:12345\r\norigin: http://evil.example\r\n";
    let (status, _, text) = kovar.request_with("POST", "/-/reload", lines);
    assert!(status == 403 && text.contains("another site"), "{status} {text}");
}

#[test]
fn a_port_in_use_stops_the_second_one_with_the_settings_name() {
    let kovar = Kovar::start("");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("kovar.yaml");
    let text = format!(
        "profiler: {{enabled: false}}\nui: {{listen: '{}'}}\nstorage: {{path: {}}}\n",
        kovar.address,
        directory.path().join("store").display()
    );
    std::fs::write(&path, text).expect("write");
    let output = Command::new(env!("CARGO_BIN_EXE_kovar")).args(["run", "--config"]).arg(&path).output();
    let output = output.expect("kovar starts");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(
        text.contains("ui.listen: ") && text.contains(&format!("port {} is in use", kovar.address.port())),
        "{text}"
    );
}

#[test]
fn two_collectors_never_share_a_store() {
    let kovar = Kovar::start("");
    let output = Command::new(env!("CARGO_BIN_EXE_kovar"))
        .args(["run", "--config"])
        .arg(kovar.directory.path().join("kovar.yaml"))
        .output()
        .expect("kovar starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).expect("UTF-8").contains("in use by another process"));
}
