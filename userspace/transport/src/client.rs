//! The client: one connection pool with its headers, credentials and limits.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, ClientBuilder, Proxy, RequestBuilder};

use crate::credential::Live;
use crate::error::chain;
use crate::{Auth, ClientConfig, Error, Failure, Response, Url};

/// How we introduce ourselves.
pub const USER_AGENT: &str = concat!("kovar/", env!("CARGO_PKG_VERSION"));

const TENANT: HeaderName = HeaderName::from_static("x-scope-orgid");
const REDIRECTS_MAX: usize = 5;
const IDLE_CONNECTIONS_MAX: usize = 2;
const IDLE_MAX: Duration = Duration::from_secs(60);
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Sends requests to one destination. Clones share the connections.
#[derive(Debug, Clone)]
pub struct HttpClient {
    client: Client,
    auth: Option<Arc<LiveAuth>>,
    /// No certificate authority could be read from the system, and none is configured.
    trusts_nobody: bool,
}

#[derive(Debug)]
enum LiveAuth {
    Basic { username: String, password: Live },
    Bearer(Live),
}

impl HttpClient {
    /// Reads the files the configuration names; connects to nothing.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting, and the file where there is one.
    pub fn new(config: ClientConfig) -> Result<Self, Error> {
        let headers = default_headers(&config)?;
        let base = || -> Result<ClientBuilder, Error> {
            let builder = Client::builder()
                .user_agent(USER_AGENT)
                .default_headers(headers.clone())
                .timeout(config.timeout)
                .connect_timeout(config.connect_timeout)
                .redirect(Policy::custom(follow))
                .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
                .pool_idle_timeout(IDLE_MAX)
                .tcp_keepalive(KEEPALIVE)
                .no_proxy();
            config.tls.apply(with_proxy(builder, &config)?)
        };
        let mut trusts_nobody = false;
        let client = match base()?.build() {
            // A host without any CA certificates, as minimal images are, can still use plain http.
            Err(_) if config.tls == Default::default() => {
                trusts_nobody = true;
                base()?.tls_certs_only([]).build()
            }
            built => built,
        };
        let client = client.map_err(|error| Error::config("tls", chain(&error)))?;
        let auth = config.auth.map(live_auth).transpose()?.map(Arc::new);
        Ok(Self { client, auth, trusts_nobody })
    }

    /// Sends `body` by POST and reads the answer, whatever its status.
    ///
    /// # Errors
    /// [`Error::Retryable`] when there was no answer, [`Error::Config`] when one of `headers`
    /// is not valid.
    pub async fn post(&self, url: &Url, headers: &[(&str, &str)], body: Bytes) -> Result<Response, Error> {
        let mut request = self.client.post(url.to_request(self.auth.is_none())).body(body);
        for (name, value) in headers {
            request = request.header(header_name(name)?, header_value("headers", value)?);
        }
        let request = self.authorize(url, request).await?;
        match request.send().await {
            Ok(response) => Ok(Response::read(response).await),
            Err(error) => Err(self.explain(Error::retryable(url, error))),
        }
    }

    async fn authorize(&self, url: &Url, request: RequestBuilder) -> Result<RequestBuilder, Error> {
        let unreadable =
            |problem| Error::Retryable { url: url.to_string(), failure: Failure::Credential, problem };
        Ok(match self.auth.as_deref() {
            None => request,
            Some(LiveAuth::Basic { username, password }) => {
                let password = password.current().await.map_err(unreadable)?;
                request.basic_auth(username, Some(password.expose()))
            }
            Some(LiveAuth::Bearer(token)) => {
                request.bearer_auth(token.current().await.map_err(unreadable)?.expose())
            }
        })
    }

    fn explain(&self, error: Error) -> Error {
        match error {
            Error::Retryable { url, failure: Failure::Connect, problem }
                if self.trusts_nobody && url.starts_with("https:") =>
            {
                let problem = format!(
                    "{problem} (this host has no CA certificates: install ca-certificates or set tls.ca_file)"
                );
                Error::Retryable { url, failure: Failure::Connect, problem }
            }
            other => other,
        }
    }
}

/// Same origin and same method only. Anything else is given to the caller as the 3xx it is.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let keeps_method = matches!(attempt.status().as_u16(), 307 | 308);
    let origin = attempt.previous().first().map(reqwest::Url::origin);
    if keeps_method && origin == Some(attempt.url().origin()) && attempt.previous().len() <= REDIRECTS_MAX {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

fn with_proxy(builder: ClientBuilder, config: &ClientConfig) -> Result<ClientBuilder, Error> {
    let Some(proxy_url) = &config.proxy_url else { return Ok(builder) };
    let url = Url::parse("proxy_url", proxy_url.expose())?;
    let proxy =
        Proxy::all(url.to_request(true)).map_err(|error| Error::config("proxy_url", chain(&error)))?;
    Ok(builder.proxy(proxy))
}

fn default_headers(config: &ClientConfig) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        let setting = format!("headers.{name}");
        let name = header_name(name)?;
        if name == AUTHORIZATION && config.auth.is_some() {
            return Err(Error::config(setting, "given beside auth; use one of the two"));
        }
        if name == TENANT && config.tenant.is_some() {
            return Err(Error::config(setting, "given beside tenant; use one of the two"));
        }
        headers.append(name, header_value(&setting, value.expose())?);
    }
    if let Some(tenant) = &config.tenant {
        headers.insert(TENANT, header_value("tenant", tenant)?);
    }
    Ok(headers)
}

fn header_name(name: &str) -> Result<HeaderName, Error> {
    name.parse().map_err(|error| Error::config(format!("headers.{name}"), error))
}

fn header_value(setting: &str, value: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(value).map_err(|error| Error::config(setting, error))?;
    value.set_sensitive(true);
    Ok(value)
}

fn live_auth(auth: Auth) -> Result<LiveAuth, Error> {
    Ok(match auth {
        Auth::Basic { username, password } => {
            LiveAuth::Basic { username, password: Live::new("auth.password", password)? }
        }
        Auth::Bearer(token) => LiveAuth::Bearer(Live::new("auth.bearer_token", token)?),
    })
}

#[cfg(test)]
mod tests {
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
        let cases = [
            (Reply::Hang, Failure::Timeout),
            (Reply::Close, Failure::Broken),
            (Reply::Garbage, Failure::Broken),
        ];
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
        for (sent_bytes, truncated) in
            [(RESPONSE_BODY_BYTES_MAX, false), (RESPONSE_BODY_BYTES_MAX * 20, true)]
        {
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
                tls(TlsConfig {
                    cert_file: Some(empty.clone()),
                    key_file: Some(empty),
                    ..TlsConfig::default()
                }),
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
}
