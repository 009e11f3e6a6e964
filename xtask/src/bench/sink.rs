//! A destination for profiles that says 200 to every request and keeps nothing.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result};

const HEAD_MAX_BYTES: u64 = 16 * 1024;
const BODY_MAX_BYTES: u64 = 64 * 1024 * 1024;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/proto\r\ncontent-length: 0\r\n\r\n";

/// Listens on 127.0.0.1 until this process ends.
#[derive(Debug)]
pub(super) struct Sink {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
}

impl Sink {
    pub(super) fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no free port on 127.0.0.1")?;
        let address = listener.local_addr().context("the address of a listener")?;
        let requests = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counted = Arc::clone(&counted);
                // It ends with the connection; a client that breaks off is no concern of this end.
                thread::spawn(move || answer(stream, &counted).ok());
            }
        });
        Ok(Self { address, requests })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests have been answered.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// Answers one connection's requests, one after the other.
fn answer(stream: TcpStream, requests: &AtomicU64) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(body_bytes) = read_head(&mut reader)? {
        io::copy(&mut reader.by_ref().take(body_bytes), &mut io::sink())?;
        reader.get_mut().write_all(ANSWER)?;
        requests.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// The length of the body that follows; None at the end of the connection.
fn read_head(reader: &mut impl BufRead) -> io::Result<Option<u64>> {
    let mut head = reader.take(HEAD_MAX_BYTES);
    let mut body_bytes = 0;
    loop {
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(Some(body_bytes));
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            let length = value.trim().parse().ok().filter(|length| *length <= BODY_MAX_BYTES);
            body_bytes = length.ok_or(io::ErrorKind::InvalidData)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_of_a_connection_is_answered_and_counted() {
        let sink = Sink::start().unwrap();
        let mut stream = TcpStream::connect(sink.address()).unwrap();
        for count in 1..=2 {
            stream.write_all(b"POST /push HTTP/1.1\r\nContent-Length: 5\r\n\r\n12345").unwrap();
            let mut read = vec![0; ANSWER.len()];
            stream.read_exact(&mut read).unwrap();
            assert_eq!(read, ANSWER);
            // The answer is written before it is counted; the next one waits for the count.
            while sink.requests() < count {
                thread::yield_now();
            }
        }
    }

    #[test]
    fn a_body_that_is_too_large_is_refused() {
        let head = format!("POST / HTTP/1.1\r\ncontent-length: {}\r\n\r\n", BODY_MAX_BYTES + 1);
        assert!(read_head(&mut head.as_bytes()).is_err());
        assert_eq!(read_head(&mut &b"GET / HTTP/1.1\r\n\r\n"[..]).unwrap(), Some(0));
        assert_eq!(read_head(&mut &b""[..]).unwrap(), None);
    }
}
