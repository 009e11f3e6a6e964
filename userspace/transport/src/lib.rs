//! HTTP client and listener: TLS, secrets, capped bodies; it knows nothing of what it carries.
//!
//! Limits: a request ends at [`ClientConfig::timeout`] whatever the server does, a response's body
//! is read up to [`RESPONSE_BODY_BYTES_MAX`], `Retry-After` is believed up to [`RETRY_AFTER_MAX`],
//! files up to [`SECRET_FILE_BYTES_MAX`] and [`PEM_FILE_BYTES_MAX`].
//!
//! Nothing is taken from the environment: a proxy is one that the configuration names. A redirect
//! is followed only to the same scheme, host and port and only when it keeps the method (307, 308),
//! so that credentials never reach another host and a push never turns into a GET that answers 200.

mod client;
mod config;
mod credential;
mod error;
mod file;
mod response;
mod retry_after;
mod secret;
mod server;
mod shutdown;
mod stall;
#[cfg(any(test, feature = "test-server"))]
pub mod test_server;
mod tls;
mod url;

pub use client::{HttpClient, USER_AGENT};
pub use config::{Auth, ClientConfig};
pub use credential::Credential;
pub use error::{Error, Failure};
pub use file::{PEM_FILE_BYTES_MAX, SECRET_FILE_BYTES_MAX};
pub use response::{RESPONSE_BODY_BYTES_MAX, Response};
pub use retry_after::{RETRY_AFTER_MAX, parse_retry_after};
pub use secret::Secret;
pub use server::Server;
pub use shutdown::{Shutdown, stop_asked};
pub use tls::TlsConfig;
pub use url::Url;
