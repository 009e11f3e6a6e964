//! An answer, with a capped body.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use reqwest::header::{HeaderMap, HeaderName, LOCATION, RETRY_AFTER};

use crate::{Url, parse_retry_after};

/// Most that is read of a response's body.
pub const RESPONSE_BODY_BYTES_MAX: usize = 64 * 1024;

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status code.
    pub status: u16,
    /// The server's `Retry-After`, at most [`crate::RETRY_AFTER_MAX`].
    pub retry_after: Option<Duration>,
    /// Where a redirect that was not followed points, without credentials and query.
    pub location: Option<String>,
    /// The first [`RESPONSE_BODY_BYTES_MAX`] bytes of the body.
    pub body: Bytes,
    /// There was more of the body, or it broke off. The status stands all the same: what was
    /// accepted must not be sent again because the end of the answer is missing.
    pub truncated: bool,
}

impl Response {
    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(crate) async fn read(mut response: reqwest::Response) -> Self {
        let status = response.status().as_u16();
        let retry_after = text_of(response.headers(), RETRY_AFTER)
            .and_then(|value| parse_retry_after(value, SystemTime::now()));
        let location = text_of(response.headers(), LOCATION)
            .and_then(|value| response.url().join(value).ok())
            .and_then(|url| Url::parse("location", url.as_str()).ok())
            .map(|url| url.to_string());
        let mut body = BytesMut::new();
        let mut truncated = false;
        loop {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(_) => {
                    truncated = true;
                    break;
                }
            };
            let room = RESPONSE_BODY_BYTES_MAX - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                truncated = true;
                break;
            }
        }
        Self { status, retry_after, location, body: body.freeze(), truncated }
    }
}

fn text_of(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}
