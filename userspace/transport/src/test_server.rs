//! An HTTP server for tests: answers each request as its script says and keeps what it was sent.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Largest request that is read.
const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Method and target, for example `POST /push`.
    pub line: String,
    /// Names in lower case, in the order of arrival.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// The first header of this name, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What the server does with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Answers with status, headers and body.
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Keeps the connection open and says nothing.
    Hang,
    /// Answers the header, then nothing more of a body that it announced.
    HangInBody,
    /// Closes the connection without an answer.
    Close,
    /// Answers something that is not HTTP.
    Garbage,
}

impl Reply {
    /// A status alone.
    pub fn status(status: u16) -> Self {
        Reply::Answer(status, Vec::new(), Vec::new())
    }
}

type Script = dyn Fn(usize, &Request) -> Reply + Send + Sync;

/// The server; it ends when it is dropped.
#[derive(Debug)]
pub struct TestServer {
    address: SocketAddr,
    requests: watch::Receiver<Vec<Request>>,
    accepting: JoinHandle<()>,
}

impl TestServer {
    /// Starts on a free port of the loopback interface. `script` gets how many requests came before.
    ///
    /// # Errors
    /// The system's, when it cannot listen.
    pub async fn start(
        script: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let script: Arc<Script> = Arc::new(script);
        let (log, requests) = watch::channel(Vec::new());
        let log = Arc::new(log);
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&log), Arc::clone(&script)));
            }
        });
        Ok(Self { address, requests, accepting })
    }

    /// Its base address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it was sent so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.borrow().clone()
    }

    /// Waits until that many requests have come; gives all of them.
    pub async fn requests_reach(&self, count: usize) -> Vec<Request> {
        let mut requests = self.requests.clone();
        match requests.wait_for(|requests| requests.len() >= count).await {
            Ok(requests) => requests.clone(),
            Err(_) => self.requests(),
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Serves one request on one connection.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    log: Arc<watch::Sender<Vec<Request>>>,
    script: Arc<Script>,
) {
    let Some(request) = read_request(&mut stream).await else { return };
    let mut index = 0;
    log.send_modify(|requests| {
        index = requests.len();
        requests.push(request.clone());
    });
    let reply = match script(index, &request) {
        Reply::Answer(status, headers, body) => answer(status, &headers, &body, body.len()),
        Reply::Garbage => b"SSH-2.0-OpenSSH_9.9\r\n\r\n".to_vec(),
        Reply::HangInBody => answer(200, &[], b"begun", 100),
        Reply::Hang => Vec::new(),
        Reply::Close => return,
    };
    let written = stream.write_all(&reply).await;
    let hangs = reply.is_empty() || reply.ends_with(b"begun");
    if written.is_ok() && hangs {
        std::future::pending::<()>().await;
    }
    // The client may be gone already, which is its right.
    drop(stream.shutdown().await);
}

fn answer(status: u16, headers: &[(&str, String)], body: &[u8], announced_bytes: usize) -> Vec<u8> {
    let mut head =
        format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {announced_bytes}\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

async fn read_request<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Request> {
    let mut received = Vec::new();
    let head_end = loop {
        if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if received.len() > REQUEST_BYTES_MAX || stream.read_buf(&mut received).await.ok()? == 0 {
            return None;
        }
    };
    let mut body = received.split_off(head_end + 4);
    let head = String::from_utf8_lossy(&received).into_owned();
    let mut lines = head.lines();
    let line = lines.next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    while body.len() < length.min(REQUEST_BYTES_MAX) {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Request { line, headers, body })
}
