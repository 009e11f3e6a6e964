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
        // Wrong credentials or a wrong address, as with a redirect elsewhere, which may be a login page
        // before the server: nothing that the record could be blamed for, so it is kept until that is
        // put right.
        401 | 403..=405 => Verdict::Retry { after: response.retry_after, error: shown(&response) },
        400..=499 => Verdict::Drop { reason: Reason::Rejected, error: shown(&response) },
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::push::{LabelPair, RawProfileSeries, RawSample};
    use proptest::prelude::*;
    use queue::{Config, Queue};
    use tokio::sync::watch;
    use tokio::time::Instant;
    use transport::test_server::{Reply, Request, TestServer};

    use super::*;
    use crate::{BackoffConfig, Outlet, OutletHandle};

    const QUICK: BackoffConfig =
        BackoffConfig { initial: Duration::from_millis(10), max: Duration::from_millis(50) };
    const PATIENCE: Duration = Duration::from_secs(60);

    fn request(series: usize) -> PushRequest {
        let series = (0..series).map(|n| RawProfileSeries {
            labels: vec![LabelPair { name: "service_name".to_owned(), value: format!("s{n}") }],
            samples: vec![RawSample { raw_profile: Bytes::from(vec![n as u8; 10]), id: String::new() }],
        });
        PushRequest { series: series.collect() }
    }

    fn record(series: usize) -> Record {
        let payload = Bytes::from(request(series).encode_to_vec());
        Record { items: series as u32, newest_unix_ms: 7, payload }
    }

    fn connect_refusal(status: u16, code: &str) -> Reply {
        let body = format!(r#"{{"code":"{code}","message":"profile too old"}}"#).into_bytes();
        Reply::Answer(status, vec![("content-type", "application/json".to_owned())], body)
    }

    /// Runs an outlet against a server with `script` until `records` are done with; gives what the
    /// server was sent.
    async fn run(
        script: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static,
        records: &[Record],
    ) -> (Vec<Request>, OutletHandle) {
        let server = TestServer::start(script).await.unwrap();
        let queue = Queue::new(Config { bytes_max: 1 << 20 });
        let client = ClientConfig { timeout: Duration::from_millis(500), ..ClientConfig::default() };
        let config = PyroscopeConfig { name: "pyroscope".to_owned(), url: server.url(), client };
        let outlet = Outlet::new(Pyroscope::new(config).unwrap(), &queue, QUICK).unwrap();
        let handle = outlet.handle();
        let (stop, shutdown) = watch::channel(None);
        let task = tokio::spawn(outlet.run(shutdown));
        for record in records {
            queue.push(record.clone()).unwrap();
        }
        assert!(queue.drained(Instant::now() + PATIENCE).await, "{:?}", handle.status());
        stop.send(Some(Instant::now() + PATIENCE)).unwrap();
        task.await.unwrap();
        (server.requests(), handle)
    }

    #[tokio::test]
    async fn a_push_is_what_pyroscope_expects() {
        let (requests, handle) = run(|_, _| Reply::status(200), &[record(2)]).await;
        assert_eq!(requests[0].line, "POST /push.v1.PusherService/Push");
        assert_eq!(requests[0].header("content-type"), Some("application/proto"));
        assert_eq!(PushRequest::decode(requests[0].body.as_slice()).unwrap(), request(2));
        assert_eq!(handle.status().sent.items, 2);
    }

    #[tokio::test]
    async fn every_passing_failure_makes_the_same_bytes_come_again() {
        let (requests, handle) = run(
            |n, _| match n {
                0 => Reply::status(500),
                1 => Reply::Answer(429, vec![("retry-after", "0".to_owned())], Vec::new()),
                2 => Reply::status(408),
                3 => Reply::Hang,
                4 => Reply::Close,
                5 => Reply::Garbage,
                6 => Reply::status(503),
                7 => Reply::Answer(302, vec![("location", "/login".to_owned())], Vec::new()),
                _ => Reply::status(200),
            },
            &[record(3)],
        )
        .await;
        assert_eq!(requests.len(), 9);
        assert!(requests.iter().all(|request| request.body == record(3).payload), "not the same bytes");
        let status = handle.status();
        assert_eq!((status.sent.records, status.sent.items), (1, 3));
        let error = status.last_error.unwrap();
        assert!(error.contains("302") && error.contains("/login"), "{error}");
    }

    #[tokio::test]
    async fn what_was_accepted_is_not_sent_again_when_the_rest_of_the_answer_is_missing() {
        let (requests, handle) = run(|_, _| Reply::HangInBody, &[record(1)]).await;
        assert_eq!(requests.len(), 1);
        assert_eq!(handle.status().sent.items, 1);
    }

    #[tokio::test]
    async fn retry_after_holds_the_next_attempt_back() {
        let started = Instant::now();
        let busy = Reply::Answer(429, vec![("retry-after", "1".to_owned())], Vec::new());
        let (requests, _) =
            run(move |n, _| if n == 0 { busy.clone() } else { Reply::status(200) }, &[record(1)]).await;
        assert_eq!(requests.len(), 2);
        assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn a_request_that_is_too_large_arrives_in_halves_and_a_too_large_series_is_dropped() {
        let limit_bytes = record(2).payload.len();
        let (requests, handle) = run(
            move |_, request| match request.body.len() > limit_bytes {
                true => Reply::status(413),
                false => Reply::status(200),
            },
            &[record(5)],
        )
        .await;
        let arrived: Vec<RawProfileSeries> = requests
            .iter()
            .filter(|request| request.body.len() <= limit_bytes)
            .flat_map(|sent| PushRequest::decode(sent.body.as_slice()).unwrap().series)
            .collect();
        assert_eq!(arrived, request(5).series, "all series, once, in order");
        assert_eq!(handle.status().sent.items, 5);

        let (requests, handle) = run(|_, _| Reply::status(413), &[record(1)]).await;
        assert_eq!(requests.len(), 1);
        let status = handle.status();
        assert_eq!(status.sent.items, 0);
        assert!(status.drops_unix_ms.is_some_and(|(first, newest)| 0 < first && first <= newest));
        assert_eq!((status.dropped[1].0, status.dropped[1].1.items), ("too_large", 1));
    }

    #[tokio::test]
    async fn a_refusal_is_final_and_shown_readably() {
        let (requests, handle) = run(
            |n, _| match n {
                0 => connect_refusal(400, "invalid_argument"),
                _ => Reply::status(200),
            },
            &[record(1), record(2)],
        )
        .await;
        assert_eq!(requests.len(), 2);
        let status = handle.status();
        assert_eq!(status.last_error.as_deref(), Some("HTTP 400: invalid_argument: profile too old"));
        assert_eq!((status.dropped[0].0, status.dropped[0].1.items), ("rejected", 1));
        assert_eq!(status.sent.items, 2);
    }

    #[test]
    fn a_wrong_destination_costs_no_record_and_a_bad_record_is_not_sent_again() {
        let verdict = |status| {
            let body = Bytes::from_static(b"no");
            verdict(Ok(Response { status, retry_after: None, location: None, body, truncated: false }))
        };
        for status in [401, 403, 404, 405, 408, 429, 500, 503] {
            let error = format!("HTTP {status}: no");
            assert_eq!(verdict(status), Verdict::Retry { after: None, error });
        }
        for status in [400, 402, 406, 409, 410, 415, 422, 499] {
            let error = format!("HTTP {status}: no");
            assert_eq!(verdict(status), Verdict::Drop { reason: Reason::Rejected, error });
        }
    }

    #[tokio::test]
    async fn the_status_shows_no_credentials() {
        let config = PyroscopeConfig {
            name: "p".to_owned(),
            url: "http://me:hunter2@pyroscope:4040/base?k=hunter2".to_owned(),
            client: ClientConfig::default(),
        };
        let pyroscope = Pyroscope::new(config).unwrap();
        assert_eq!(pyroscope.url(), "http://pyroscope:4040/base");
        assert!(!format!("{pyroscope:?}").contains("hunter2"));
    }

    #[test]
    fn long_or_unprintable_answers_are_shown_short_and_printable() {
        let answer = |body: &[u8]| Response {
            status: 400,
            retry_after: None,
            location: None,
            body: Bytes::copy_from_slice(body),
            truncated: false,
        };
        assert_eq!(shown(&answer(b"")), "HTTP 400");
        assert_eq!(shown(&answer(b"<h1>\r\nBad\x1b[0m</h1>\n")), "HTTP 400: <h1>  Bad [0m</h1>");
        assert_eq!(shown(&answer(br#"{"code":"unavailable"}"#)), "HTTP 400: unavailable");
        assert_eq!(shown(&answer(br#"{"message":"x"}"#)), r#"HTTP 400: {"message":"x"}"#);
        let long = shown(&answer("é".repeat(1000).as_bytes()));
        assert_eq!(long.chars().count(), "HTTP 400: ".len() + SHOWN_CHARS_MAX);
    }

    proptest! {
        #[test]
        fn halves_say_together_what_the_whole_said(series in 2usize..40, items in 0u32..10_000) {
            let whole = Record { items, ..record(series) };
            let config = PyroscopeConfig {
                name: "p".to_owned(),
                url: "http://h".to_owned(),
                client: ClientConfig::default(),
            };
            let (first, second) = Pyroscope::new(config).unwrap().split(&whole).unwrap();
            prop_assert_eq!(first.items + second.items, items);
            let decode = |half: &Record| PushRequest::decode(half.payload.clone()).unwrap().series;
            prop_assert!(!decode(&first).is_empty() && !decode(&second).is_empty());
            prop_assert_eq!([decode(&first), decode(&second)].concat(), request(series).series);
        }
    }
}
