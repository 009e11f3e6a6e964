//! How to reach one destination.

use std::time::Duration;

use crate::{Credential, Secret, TlsConfig};

/// Settings of one HTTP client; the defaults reach a plain server without authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientConfig {
    /// Longest time from the start of a request to the end of its answer. Default 10 s.
    pub timeout: Duration,
    /// Longest time for name resolution, connection and TLS handshake. Default 5 s.
    pub connect_timeout: Duration,
    /// Sent with every request; the values may be keys, so they are never printed.
    pub headers: Vec<(String, Secret)>,
    /// Sent as `Authorization`; goes before user and password in a URL.
    pub auth: Option<Auth>,
    /// Sent as `X-Scope-OrgID`.
    pub tenant: Option<String>,
    pub tls: TlsConfig,
    /// URL of the proxy, which may hold a password. Proxies in the environment are not used.
    pub proxy_url: Option<Secret>,
}

/// How to authenticate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    Basic { username: String, password: Credential },
    Bearer(Credential),
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            headers: Vec::new(),
            auth: None,
            tenant: None,
            tls: TlsConfig::default(),
            proxy_url: None,
        }
    }
}
