//! Tests of the module `client`.

use std::time::Instant;

use tokio::net::TcpListener;

use super::*;
use crate::test_server::{Reply, TestServer};
use crate::{Credential, RESPONSE_BODY_BYTES_MAX, Secret, TlsConfig};

const SHORT: Duration = Duration::from_millis(300);

fn client(config: ClientConfig) -> HttpClient {
    HttpClient::new(config).unwrap()
}

async fn answers(reply: Reply) -> TestServer {
    TestServer::start(move |_, _| reply.clone()).await.unwrap()
}

async fn post(client: &HttpClient, url: &str) -> Result<Response, Error> {
    let url = Url::parse("url", url)?;
    client.post(&url, &[("content-type", "text/plain")], Bytes::from_static(b"hello")).await
}

fn failure(answer: Result<Response, Error>) -> (Failure, String) {
    match answer.unwrap_err() {
        Error::Retryable { failure, problem, .. } => (failure, problem),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn what_is_configured_is_sent() {
    let server = answers(Reply::Answer(200, Vec::new(), b"ok".to_vec())).await;
    let client = client(ClientConfig {
        headers: vec![("X-Key".to_owned(), Secret::new("k"))],
        auth: Some(Auth::Basic {
            username: "me".to_owned(),
            password: Credential::Value(Secret::new("hunter2")),
        }),
        tenant: Some("team-a".to_owned()),
        ..ClientConfig::default()
    });
    let url = server.url().replace("http://", "http://ignored:wrong@");
    let response = post(&client, &format!("{url}/api?x=1")).await.unwrap();
    assert_eq!((response.status, response.body.as_ref()), (200, b"ok".as_ref()));
    let request = server.requests().remove(0);
    assert_eq!(request.line, "POST /api?x=1");
    assert_eq!(request.body, b"hello");
    let expected = [
        ("x-key", "k"),
        ("authorization", "Basic bWU6aHVudGVyMg=="),
        ("x-scope-orgid", "team-a"),
        ("user-agent", USER_AGENT),
        ("content-type", "text/plain"),
    ];
    for (name, value) in expected {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    assert_eq!(request.headers.iter().filter(|(name, _)| name == "authorization").count(), 1);
}

#[tokio::test]
async fn a_token_is_read_again_when_its_file_has_changed() {
    let server = answers(Reply::status(200)).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "first\n").unwrap();
    let auth = Some(Auth::Bearer(Credential::File(file.clone())));
    let client = client(ClientConfig { auth, ..ClientConfig::default() });
    post(&client, &server.url()).await.unwrap();
    std::fs::write(&file, "second\n").unwrap();
    post(&client, &server.url()).await.unwrap();
    let sent: Vec<_> =
        server.requests().iter().map(|r| r.header("authorization").unwrap().to_owned()).collect();
    assert_eq!(sent, ["Bearer first", "Bearer second"]);

    std::fs::remove_file(&file).unwrap();
    let (failure, problem) = failure(post(&client, &server.url()).await);
    assert_eq!(failure, Failure::Credential);
    assert!(problem.contains("token"), "{problem}");
    assert_eq!(server.requests().len(), 2, "nothing is sent without the token");
}

#[tokio::test]
async fn every_failure_to_get_an_answer_is_told_apart() {
    let client = client(ClientConfig { timeout: SHORT, ..ClientConfig::default() });
    let cases =
        [(Reply::Hang, Failure::Timeout), (Reply::Close, Failure::Broken), (Reply::Garbage, Failure::Broken)];
    for (reply, expected) in cases {
        let server = answers(reply.clone()).await;
        let started = Instant::now();
        let (failure, problem) = failure(post(&client, &server.url()).await);
        assert_eq!(failure, expected, "{reply:?}: {problem}");
        assert!(started.elapsed() < Duration::from_secs(10), "{reply:?}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (failure, problem) = failure(post(&client, &format!("http://{nobody}")).await);
    assert_eq!(failure, Failure::Connect);
    assert!(problem.contains("refused"), "{problem}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_still_has_its_status() {
    let server = answers(Reply::HangInBody).await;
    let client = client(ClientConfig { timeout: SHORT, ..ClientConfig::default() });
    let response = post(&client, &server.url()).await.unwrap();
    assert_eq!((response.status, response.body.as_ref(), response.truncated), (200, &b"begun"[..], true));
}

#[tokio::test]
async fn an_error_names_the_address_and_never_a_credential() {
    let client = client(ClientConfig { timeout: SHORT, ..ClientConfig::default() });
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = post(&client, &format!("http://me:hunter2@{nobody}/p?key=hunter2")).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains(&format!("http://{nobody}/p")), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn a_body_is_read_up_to_the_limit() {
    for (sent_bytes, truncated) in [(RESPONSE_BODY_BYTES_MAX, false), (RESPONSE_BODY_BYTES_MAX * 20, true)] {
        let server = answers(Reply::Answer(500, Vec::new(), vec![b'x'; sent_bytes])).await;
        let response = post(&client(ClientConfig::default()), &server.url()).await.unwrap();
        assert_eq!((response.body.len(), response.truncated), (RESPONSE_BODY_BYTES_MAX, truncated));
    }
}

#[tokio::test]
async fn retry_after_reaches_the_caller() {
    let server = answers(Reply::Answer(429, vec![("retry-after", "17".to_owned())], Vec::new())).await;
    let response = post(&client(ClientConfig::default()), &server.url()).await.unwrap();
    assert_eq!((response.status, response.retry_after), (429, Some(Duration::from_secs(17))));
}

#[tokio::test]
async fn a_redirect_to_another_host_or_by_another_method_is_not_followed() {
    let other = answers(Reply::status(200)).await;
    let elsewhere = format!("{}/moved?key=s", other.url());
    for (status, location) in [(307, elsewhere.clone()), (308, elsewhere), (302, "/login".to_owned())] {
        let server = answers(Reply::Answer(status, vec![("location", location)], Vec::new())).await;
        let client = client(ClientConfig {
            headers: vec![("x-key".to_owned(), Secret::new("hunter2"))],
            ..ClientConfig::default()
        });
        let response = post(&client, &server.url()).await.unwrap();
        assert_eq!(response.status, status);
        let location = response.location.unwrap();
        assert!(!location.contains("key"), "{location}");
        assert_eq!(server.requests().len(), 1);
    }
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn a_redirect_on_the_same_host_keeps_method_and_body_and_ends() {
    let server = TestServer::start(|_, request| match request.line.as_str() {
        "POST /old" => Reply::Answer(308, vec![("location", "/new".to_owned())], Vec::new()),
        "POST /new" => Reply::status(204),
        _ => Reply::Answer(307, vec![("location", "/loop".to_owned())], Vec::new()),
    })
    .await
    .unwrap();
    let client = client(ClientConfig::default());
    assert_eq!(post(&client, &format!("{}/old", server.url())).await.unwrap().status, 204);
    assert_eq!(server.requests()[1].body, b"hello");
    assert_eq!(post(&client, &format!("{}/loop", server.url())).await.unwrap().status, 307);
    assert_eq!(server.requests().len(), 2 + REDIRECTS_MAX + 1);
}

#[tokio::test]
async fn a_configured_proxy_is_used() {
    let proxy = answers(Reply::status(200)).await;
    let config = ClientConfig { proxy_url: Some(Secret::new(proxy.url())), ..ClientConfig::default() };
    post(&client(config), "http://pyroscope.invalid:4040/push").await.unwrap();
    assert_eq!(proxy.requests()[0].line, "POST http://pyroscope.invalid:4040/push");
}

#[test]
fn a_configuration_that_cannot_work_is_refused_by_the_settings_name() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let tls = |tls| ClientConfig { tls, ..ClientConfig::default() };
    let headers = |name: &str, value: &str| ClientConfig {
        headers: vec![(name.to_owned(), Secret::new(value))],
        ..ClientConfig::default()
    };
    let cases = [
        (
            "tls.ca_file",
            tls(TlsConfig { ca_file: Some("/nonexistent/ca.pem".into()), ..TlsConfig::default() }),
        ),
        ("tls.ca_file", tls(TlsConfig { ca_file: Some(empty.clone()), ..TlsConfig::default() })),
        ("tls.key_file", tls(TlsConfig { cert_file: Some(empty.clone()), ..TlsConfig::default() })),
        ("tls.cert_file", tls(TlsConfig { key_file: Some(empty.clone()), ..TlsConfig::default() })),
        (
            "tls.cert_file",
            tls(TlsConfig { cert_file: Some(empty.clone()), key_file: Some(empty), ..TlsConfig::default() }),
        ),
        ("headers.bad name", headers("bad name", "v")),
        ("headers.x", headers("x", "two\nlines")),
        ("tenant", ClientConfig { tenant: Some("a\0b".to_owned()), ..ClientConfig::default() }),
        (
            "headers.X-Scope-OrgID",
            ClientConfig { tenant: Some("a".to_owned()), ..headers("X-Scope-OrgID", "b") },
        ),
        ("proxy_url", ClientConfig { proxy_url: Some("socks5://h:1".into()), ..ClientConfig::default() }),
        (
            "auth.bearer_token_file",
            ClientConfig {
                auth: Some(Auth::Bearer(Credential::File("/nonexistent/token".into()))),
                ..ClientConfig::default()
            },
        ),
    ];
    for (expected, config) in cases {
        match HttpClient::new(config) {
            Err(Error::Config { setting, problem }) => {
                assert_eq!(setting, expected, "{problem}");
                assert!(!problem.is_empty());
            }
            other => panic!("{expected}: {other:?}"),
        }
    }
}
