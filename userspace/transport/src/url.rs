//! An http or https address whose printed form holds no credential.

use std::fmt;

use crate::Error;

/// Where requests go. Display and Debug leave out user, password and query.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(reqwest::Url);

impl Url {
    /// Parses an absolute URL.
    ///
    /// # Errors
    /// [`Error::Config`] naming `setting` when it is not an absolute http or https URL with a host.
    pub fn parse(setting: &str, text: &str) -> Result<Self, Error> {
        // The text itself is not repeated: it may hold a password.
        let url = reqwest::Url::parse(text)
            .map_err(|error| Error::config(setting, format!("not a URL like http://host:4040: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            let problem = format!("the scheme {} is not http or https", url.scheme());
            return Err(Error::config(setting, problem));
        }
        if url.fragment().is_some() {
            return Err(Error::config(setting, "a URL to send to has no #fragment"));
        }
        Ok(Self(url))
    }

    /// This address with `path` after its own path; query and credentials stay.
    pub fn with_path(&self, path: &str) -> Self {
        let mut url = self.0.clone();
        let joined = format!("{}/{}", url.path().trim_end_matches('/'), path.trim_start_matches('/'));
        url.set_path(&joined);
        Self(url)
    }

    pub(crate) fn to_request(&self, with_credentials: bool) -> reqwest::Url {
        let mut url = self.0.clone();
        if !with_credentials {
            // These fail only for URLs that cannot have a host, which `parse` refuses.
            let cleared = url.set_username("").and_then(|()| url.set_password(None));
            debug_assert!(cleared.is_ok());
        }
        url
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or_default())?;
        if let Some(port) = self.0.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(if self.0.path() == "/" { "" } else { self.0.path() })
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printing_leaves_out_credentials_and_query() {
        let url = Url::parse("url", "https://me:hunter2@pyro.example:4040/base/?token=hunter2").unwrap();
        assert_eq!(url.with_path("push").to_string(), "https://pyro.example:4040/base/push");
        assert!(!format!("{url:?}").contains("hunter2"));
        assert_eq!(url.with_path("/push").to_request(true).query(), Some("token=hunter2"));
        assert_eq!(url.to_request(true).password(), Some("hunter2"));
        assert_eq!(url.to_request(false).password(), None);
    }

    #[test]
    fn a_path_is_appended_whether_or_not_the_base_ends_in_a_slash() {
        for base in ["http://[::1]:4040", "http://[::1]:4040/"] {
            let url = Url::parse("url", base).unwrap();
            assert_eq!(url.with_path("a/b").to_string(), "http://[::1]:4040/a/b");
            assert_eq!(url.to_string(), "http://[::1]:4040");
        }
    }

    #[test]
    fn what_is_no_http_address_is_refused_by_the_settings_name() {
        for text in
            ["", "pyroscope:4040", "ftp://host/", "http://", "//host", "http://host/#x", "http://u:hunter2@"]
        {
            let error = Url::parse("destinations.pyroscope[0].url", text).unwrap_err().to_string();
            assert!(error.starts_with("destinations.pyroscope[0].url: "), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
