//! What can go wrong with a request, by what the caller can do about it.

/// Never contains a credential: URLs in it are without user, password and query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The configuration cannot work; the operator has to change it.
    #[error("{setting}: {problem}")]
    Config {
        /// The setting, relative to the client's own section, for example `tls.ca_file`.
        setting: String,
        /// What is wrong, with the file's name where there is one.
        problem: String,
    },
    /// There was no answer; the same request may succeed later.
    #[error("{url}: {failure}: {problem}")]
    Retryable {
        /// Where the request went.
        url: String,
        failure: Failure,
        /// The cause, as far as the system tells it.
        problem: String,
    },
}

/// How far a request came that got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// Name resolution, connection or TLS handshake failed: nothing was sent.
    Connect,
    /// The time limit passed.
    Timeout,
    /// The connection broke, or what came over it was not HTTP.
    Broken,
    /// The credential's file cannot be read any more: nothing was sent.
    Credential,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Failure::Connect => "cannot connect",
            Failure::Timeout => "no answer in time",
            Failure::Broken => "the connection broke",
            Failure::Credential => "cannot read the credential",
        })
    }
}

impl Error {
    pub(crate) fn config(setting: impl Into<String>, problem: impl std::fmt::Display) -> Self {
        Error::Config { setting: setting.into(), problem: problem.to_string() }
    }

    pub(crate) fn retryable(url: &crate::Url, error: reqwest::Error) -> Self {
        let failure = if error.is_timeout() {
            Failure::Timeout
        } else if error.is_connect() {
            Failure::Connect
        } else {
            Failure::Broken
        };
        Error::Retryable { url: url.to_string(), failure, problem: chain(&error.without_url()) }
    }
}

/// An error and its causes in one line; a cause that its effect already spells out is left away.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text.push_str(": ");
            text.push_str(&next_text);
        }
        cause = next.source();
    }
    text
}
