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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::path::Path;
    use std::sync::Arc;

    use bytes::Bytes;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use tokio::net::TcpListener;
    use tokio::sync::watch;
    use tokio::task::JoinHandle;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio_rustls::rustls::server::WebPkiClientVerifier;
    use tokio_rustls::rustls::{RootCertStore, ServerConfig};

    use super::*;
    use crate::test_server::{Reply, serve};
    use crate::{ClientConfig, Failure, HttpClient, Response, Url};

    struct Authority(CertifiedIssuer<'static, KeyPair>);

    impl Authority {
        fn new() -> Self {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
        }

        /// Certificate and key in PEM form.
        fn issue(&self, name: &str) -> (String, String) {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
        }
    }

    /// A TLS server that answers 204; ends when dropped.
    struct TlsServer {
        address: SocketAddr,
        accepting: JoinHandle<()>,
    }

    impl Drop for TlsServer {
        fn drop(&mut self) {
            self.accepting.abort();
        }
    }

    /// With `clients`, only clients with a certificate of that authority are served.
    async fn server(authority: &Authority, clients: Option<&Authority>) -> TlsServer {
        let (cert, key) = authority.issue("localhost");
        let builder = match clients {
            None => ServerConfig::builder().with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(clients.0.pem().as_bytes()).unwrap()).unwrap();
                let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
                ServerConfig::builder().with_client_cert_verifier(verifier)
            }
        };
        let config = builder
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(async move {
            let log = Arc::new(watch::channel(Vec::new()).0);
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream, Arc::clone(&log), Arc::new(|_, _| Reply::status(204))).await;
                }
            }
        });
        TlsServer { address, accepting }
    }

    async fn post(tls: TlsConfig, server: &TlsServer) -> Result<Response, Error> {
        let client = HttpClient::new(ClientConfig { tls, ..ClientConfig::default() }).unwrap();
        let url = Url::parse("url", &format!("https://localhost:{}", server.address.port())).unwrap();
        client.post(&url, &[], Bytes::new()).await
    }

    fn file(dir: &Path, name: &str, content: &str) -> Option<PathBuf> {
        let path = dir.join(name);
        std::fs::write(&path, content).unwrap();
        Some(path)
    }

    fn is_connect_failure(answer: &Result<Response, Error>) -> bool {
        matches!(answer, Err(Error::Retryable { failure: Failure::Connect, .. }))
    }

    #[tokio::test]
    async fn only_a_trusted_server_is_spoken_to() {
        let (ours, theirs) = (Authority::new(), Authority::new());
        let server = server(&ours, None).await;
        let dir = tempfile::tempdir().unwrap();
        let trusting = |authority: &Authority, name| TlsConfig {
            ca_file: file(dir.path(), name, &authority.0.pem()),
            ..TlsConfig::default()
        };
        assert_eq!(post(trusting(&ours, "ours.pem"), &server).await.unwrap().status, 204);
        for tls in [trusting(&theirs, "theirs.pem"), TlsConfig::default()] {
            let answer = post(tls, &server).await;
            assert!(is_connect_failure(&answer), "{answer:?}");
        }
        let unchecked = TlsConfig { insecure_skip_verify: true, ..TlsConfig::default() };
        assert_eq!(post(unchecked, &server).await.unwrap().status, 204);
    }

    #[tokio::test]
    async fn a_server_that_asks_for_it_gets_our_certificate() {
        let (authority, clients) = (Authority::new(), Authority::new());
        let server = server(&authority, Some(&clients)).await;
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = clients.issue("kovar");
        let with = TlsConfig {
            ca_file: file(dir.path(), "ca.pem", &authority.0.pem()),
            cert_file: file(dir.path(), "cert.pem", &cert),
            key_file: file(dir.path(), "key.pem", &key),
            insecure_skip_verify: false,
        };
        let without = TlsConfig { cert_file: None, key_file: None, ..with.clone() };
        assert_eq!(post(with, &server).await.unwrap().status, 204);
        assert!(post(without, &server).await.is_err());
    }
}
