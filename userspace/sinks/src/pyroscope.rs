//! Pyroscope's push API, <https://grafana.com/docs/pyroscope/latest/reference-server-api/>.

use bytes::Bytes;
use model::push::PushRequest;
use prost::Message;
use queue::Record;
use transport::{ClientConfig, Error, HttpClient, Response, Url};

use crate::{Reason, Sink, Verdict};

const PUSH_PATH: &str = "push.v1.PusherService/Push";
/// The protocol is Connect's unary call, which takes plain protobuf by POST.
const HEADERS: [(&str, &str); 2] = [("content-type", "application/proto"), ("connect-protocol-version", "1")];
/// Most that is shown of what a server said.
const SHOWN_CHARS_MAX: usize = 200;

/// Settings of one Pyroscope.
#[derive(Debug, Clone)]
pub struct PyroscopeConfig {
    /// The destination's name: unique among those of the same queue.
    pub name: String,
    /// Base address; the path of the API is appended to its own.
    pub url: String,
    pub client: ClientConfig,
}

/// One Pyroscope. A record is an encoded [`PushRequest`] and is sent as it is.
#[derive(Debug)]
pub struct Pyroscope {
    name: String,
    base: Url,
    push: Url,
    client: HttpClient,
}

impl Pyroscope {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting, and the file where there is one.
    pub fn new(config: PyroscopeConfig) -> Result<Self, Error> {
        let base = Url::parse("url", &config.url)?;
        let push = base.with_path(PUSH_PATH);
        Ok(Self { name: config.name, base, push, client: HttpClient::new(config.client)? })
    }
}

impl Sink for Pyroscope {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "pyroscope"
    }

    fn url(&self) -> String {
        self.base.to_string()
    }

    async fn send(&self, record: &Record) -> Verdict {
        verdict(self.client.post(&self.push, &HEADERS, record.payload.clone()).await)
    }

    /// Halves the series. Items are shared out in proportion to the series on each side.
    fn split(&self, record: &Record) -> Option<(Record, Record)> {
        let mut first = PushRequest::decode(record.payload.clone()).ok()?;
        let series = first.series.len();
        if series < 2 {
            return None;
        }
        let second = PushRequest { series: first.series.split_off(series / 2) };
        let share = u64::from(record.items) * (series as u64 / 2) / series as u64;
        let first_items = u32::try_from(share).ok()?;
        let half = |request: &PushRequest, items| Record {
            items,
            newest_unix_ms: record.newest_unix_ms,
            payload: Bytes::from(request.encode_to_vec()),
        };
        Some((half(&first, first_items), half(&second, record.items - first_items)))
    }
}

fn verdict(answer: Result<Response, Error>) -> Verdict {
    let response = match answer {
        Ok(response) => response,
        Err(error) => return Verdict::Retry { after: None, error: error.to_string() },
    };
    match response.status {
        200..=299 => Verdict::Sent,
        413 => Verdict::Split { error: shown(&response) },
        408 | 429 | 500.. => Verdict::Retry { after: response.retry_after, error: shown(&response) },
        400..=499 => Verdict::Drop { reason: Reason::Rejected, error: shown(&response) },
        // A redirect elsewhere is a wrong address, or a login page before the server: nothing that
        // the record could be blamed for, so it is kept until the address is put right.
        _ => Verdict::Retry { after: response.retry_after, error: shown(&response) },
    }
}

/// Status and reason in one line, fit for a log.
fn shown(response: &Response) -> String {
    let status = response.status;
    if let Some(location) = &response.location {
        return format!("HTTP {status}: redirected to {location}, which is not followed; set url to it");
    }
    let text = connect_error(&response.body)
        .unwrap_or_else(|| String::from_utf8_lossy(&response.body).trim().to_owned());
    let text: String =
        text.chars().map(|char| if char.is_control() { ' ' } else { char }).take(SHOWN_CHARS_MAX).collect();
    match text.is_empty() {
        true => format!("HTTP {status}"),
        false => format!("HTTP {status}: {text}"),
    }
}

/// The body of a failed Connect call, <https://connectrpc.com/docs/protocol/#error-end-stream>.
fn connect_error(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let code = body.get("code")?.as_str()?;
    Some(match body.get("message").and_then(|message| message.as_str()) {
        Some(message) => format!("{code}: {message}"),
        None => code.to_owned(),
    })
}
