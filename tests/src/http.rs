//! A small HTTP/1.1 client: one request, one connection, bounded.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// How long a connection, a write or a read may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// An answer, its body complete.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The first header of this lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }
}

/// # Errors
/// Those of the connection; a status is no error.
pub fn get(address: SocketAddr, path: &str) -> Result<Response> {
    request(address, "GET", path, &[], &[])
}

/// # Errors
/// Those of the connection; a status is no error.
pub fn post(address: SocketAddr, path: &str, content_type: &str, body: &[u8]) -> Result<Response> {
    request(address, "POST", path, &[("content-type", content_type)], body)
}

/// # Errors
/// Those of the connection, or an answer that is not HTTP; a status is no error.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Response> {
    let what = || format!("{method} http://{address}{path}");
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).with_context(what)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes()).with_context(what)?;
    stream.write_all(body).with_context(what)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).with_context(what)?;
    parse(&answer).with_context(what)
}

fn parse(answer: &[u8]) -> Result<Response> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("no end of the header")?;
    let head = std::str::from_utf8(&answer[..end])?;
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("no status in {first:?}"))?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut response = Response { status, headers, body: Vec::new() };
    let body = &answer[end + 4..];
    response.body = if response.header("transfer-encoding") == Some("chunked") {
        unchunk(body)?
    } else {
        if let Some(length) = response.header("content-length") {
            let length: usize = length.parse().context("content-length")?;
            ensure!(body.len() == length, "{} of {length} bytes came", body.len());
        }
        body.to_vec()
    };
    Ok(response)
}

fn unchunk(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").context("no end of a chunk's size")?;
        let size = std::str::from_utf8(&rest[..end])?.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size.trim(), 16).context("a chunk's size")?;
        if size == 0 {
            return Ok(body);
        }
        let Some(chunk) = rest.get(end + 2..end + 2 + size) else { bail!("a chunk is cut off") };
        body.extend_from_slice(chunk);
        rest = rest.get(end + 4 + size..).context("a chunk is cut off")?;
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn bodies_come_with_a_length_and_in_chunks() {
        let plain = parse(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno").unwrap();
        assert_eq!((plain.status, plain.text().as_str()), (404, "no"));
        let chunked =
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        assert_eq!(parse(chunked).unwrap().text(), "abcde");
    }

    #[test]
    fn an_answer_that_is_cut_off_is_an_error() {
        assert!(parse(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\n").is_err());
    }
}
