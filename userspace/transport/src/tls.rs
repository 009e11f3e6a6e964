//! Whom to trust, and who we are, on a TLS connection.

use std::path::PathBuf;

use reqwest::{Certificate, ClientBuilder, Identity};

use crate::error::chain;
use crate::file::{PEM_FILE_BYTES_MAX, read};
use crate::{Error, Secret};

/// TLS settings of one destination. All files are PEM and read once, when the client is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// Certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate chain; needs `key_file`.
    pub cert_file: Option<PathBuf>,
    /// The private key of `cert_file`.
    pub key_file: Option<PathBuf>,
    /// Accept any certificate. Anybody on the way can then read and change what is sent.
    pub insecure_skip_verify: bool,
}

impl TlsConfig {
    pub(crate) fn apply(&self, mut builder: ClientBuilder) -> Result<ClientBuilder, Error> {
        if let Some(path) = &self.ca_file {
            let certificates = read(path, PEM_FILE_BYTES_MAX).and_then(|(_, pem)| {
                let shown = path.display();
                let certificates = Certificate::from_pem_bundle(&pem)
                    .map_err(|error| format!("{shown} is not PEM: {}", chain(&error)))?;
                match certificates.is_empty() {
                    true => Err(format!("{shown} holds no certificate in PEM form")),
                    false => Ok(certificates),
                }
            });
            let certificates = certificates.map_err(|problem| Error::config("tls.ca_file", problem))?;
            builder = builder.tls_certs_only(certificates);
        }
        if let Some(identity) = self.identity()? {
            builder = builder.identity(identity);
        }
        Ok(builder.tls_danger_accept_invalid_certs(self.insecure_skip_verify))
    }

    fn identity(&self) -> Result<Option<Identity>, Error> {
        let (cert_file, key_file) = match (&self.cert_file, &self.key_file) {
            (None, None) => return Ok(None),
            (Some(_), None) => return Err(Error::config("tls.key_file", "missing beside tls.cert_file")),
            (None, Some(_)) => return Err(Error::config("tls.cert_file", "missing beside tls.key_file")),
            (Some(cert), Some(key)) => (cert, key),
        };
        let read_pem = |setting: &str, path: &PathBuf| {
            let (_, pem) = read(path, PEM_FILE_BYTES_MAX).map_err(|p| Error::config(setting, p))?;
            let text = String::from_utf8(pem).map_err(|error| {
                Error::config(setting, format!("{} is not PEM text: {error}", path.display()))
            })?;
            Ok(Secret::from(text))
        };
        let cert = read_pem("tls.cert_file", cert_file)?;
        let key = read_pem("tls.key_file", key_file)?;
        let pem = format!("{}\n{}", cert.expose(), key.expose());
        let identity = Identity::from_pem(pem.as_bytes()).map_err(|error| {
            let problem = format!(
                "{} and {} are not a certificate and its key in PEM form: {}",
                cert_file.display(),
                key_file.display(),
                chain(&error)
            );
            Error::config("tls.cert_file", problem)
        })?;
        Ok(Some(identity))
    }
}
