//! An HTTP listener within limits; what it serves is the caller's router.

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::stall::StallLimit;
use crate::{Error, Shutdown, stop_asked};

/// Connections at the same time; more wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 64;

/// How long a client may take for a request's header, and may keep a connection without one.
const HEADER_MAX: Duration = Duration::from_secs(15);

/// How long a client may leave an answer unread.
const STALL_MAX: Duration = Duration::from_secs(30);

/// How long one connection may last.
const CONNECTION_MAX: Duration = Duration::from_secs(600);

/// A request's header and the client's unread data are buffered up to this.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// After a failed accept, such as one for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The address listened on.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
}

impl Server {
    /// Takes the address that `setting` names.
    ///
    /// # Errors
    /// [`Error::Config`]: the address cannot be had; the text names it and the way out.
    pub async fn bind(setting: &str, listen: SocketAddr) -> Result<Self, Error> {
        let listener = TcpListener::bind(listen).await.map_err(|error| {
            let why = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    let port = listen.port();
                    format!(
                        "port {port} is in use; stop the program that listens there, or choose another port"
                    )
                }
                _ => error.to_string(),
            };
            Error::config(setting, format!("cannot listen on {listen}: {why}"))
        })?;
        Ok(Self { listener })
    }

    /// The address in use, which has a port also when the configured one was 0.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until it shall stop, and then what is under way until the deadline.
    pub async fn serve(self, router: Router, mut shutdown: Shutdown) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let (stop, _) = watch::channel(());
        let deadline = loop {
            let next = async {
                let permit = Arc::clone(&permits).acquire_owned().await;
                (permit, self.listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                deadline = stop_asked(&mut shutdown) => break deadline,
                next = next => next,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (router, stopping) = (router.clone(), stop.subscribe());
                    tokio::spawn(async move {
                        connection(stream, router, stopping).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::debug!("accept failed: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        };
        drop(self.listener);
        stop.send_replace(());
        // All permits are back when every connection has ended.
        let all = permits.acquire_many(CONNECTIONS_MAX as u32);
        if tokio::time::timeout_at(deadline, all).await.is_err() {
            tracing::debug!("connections were still open at the end");
        }
    }
}

async fn connection(stream: TcpStream, router: Router, mut stopped: watch::Receiver<()>) {
    let service = TowerToHyperService::new(router);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(StallLimit::new(stream, STALL_MAX)), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(HEADER_MAX, connection).await.unwrap_or(Ok(()))
        }
        () = tokio::time::sleep(CONNECTION_MAX) => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(HEADER_MAX, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!("connection ended: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::Server;
    use axum::Router;
    use axum::routing::get;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::watch;
    use tokio::time::Instant;

    /// More than the kernel takes for a client that does not read.
    const LARGE_BYTES: usize = 32 << 20;

    async fn server() -> (std::net::SocketAddr, watch::Sender<Option<Instant>>, tokio::task::JoinHandle<()>) {
        let server =
            Server::bind("ui.listen", "127.0.0.1:0".parse().expect("an address")).await.expect("bound");
        let address = server.address().expect("an address");
        let (stop, shutdown) = watch::channel(None);
        let router = Router::new()
            .route("/", get(|| async { "hello" }))
            .route("/large", get(|| async { vec![0u8; LARGE_BYTES] }));
        (address, stop, tokio::spawn(server.serve(router, shutdown)))
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_the_setting() {
        let first =
            Server::bind("ui.listen", "127.0.0.1:0".parse().expect("an address")).await.expect("bound");
        let address = first.address().expect("an address");
        let error = Server::bind("ui.listen", address).await.expect_err("in use").to_string();
        assert!(
            error.starts_with("ui.listen: ") && error.contains(&format!("port {} is in use", address.port()))
        );
    }

    #[tokio::test]
    async fn a_stop_ends_idle_connections_and_frees_the_port() {
        let (address, stop, task) = server().await;
        let mut client = TcpStream::connect(address).await.expect("connected");
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
        let mut answer = vec![0; 1024];
        let length = client.read(&mut answer).await.expect("an answer");
        assert!(answer[..length].starts_with(b"HTTP/1.1 200 OK"));
        stop.send_replace(Some(Instant::now() + Duration::from_secs(30)));
        task.await.expect("ended");
        assert_eq!(client.read(&mut answer).await.expect("closed"), 0);
        Server::bind("ui.listen", address).await.expect("free again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_finishes_its_header_is_cut_off() {
        let (address, _stop, _task) = server().await;
        let mut client = TcpStream::connect(address).await.expect("connected");
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n").await.expect("sent");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("closed by the server");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_leaves_its_answer_unread_is_cut_off() {
        let (address, _stop, _task) = server().await;
        let mut client = TcpStream::connect(address).await.expect("connected");
        client.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
        client.readable().await.expect("an answer begins");
        tokio::time::sleep(2 * super::STALL_MAX).await;
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("closed by the server");
        assert!(answer.starts_with(b"HTTP/1.1 200 OK") && answer.len() < LARGE_BYTES, "{}", answer.len());
    }
}
