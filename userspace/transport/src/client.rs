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
mod tests;
