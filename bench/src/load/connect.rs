//! Connections: TCP, and TLS on top.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::target::Target;
use super::watch::Failure;

/// A connection of either kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
pub(super) type Io = Box<dyn Stream>;

/// How to reach the target.
#[derive(Clone)]
pub(super) struct Connector {
    target: Arc<Target>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    http2: bool,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector")
            .field("target", &self.target)
            .field("http2", &self.http2)
            .finish_non_exhaustive()
    }
}

impl Connector {
    /// `cacert`: trusted instead of the system's certificates.
    pub(super) fn new(target: Arc<Target>, http2: bool, cacert: Option<&Path>) -> Result<Self, String> {
        let tls = if target.tls {
            let name = ServerName::try_from(target.host.clone())
                .map_err(|error| format!("{} is no name for TLS: {error}", target.host))?;
            Some((TlsConnector::from(Arc::new(config(http2, cacert)?)), name))
        } else {
            None
        };
        Ok(Self { target, tls, http2 })
    }

    pub(super) async fn connect(&self) -> Result<Io, Failure> {
        self.try_connect().await.map_err(|_| Failure::Connect)
    }

    async fn try_connect(&self) -> io::Result<Io> {
        let stream = TcpStream::connect(self.target.addresses.as_slice()).await?;
        stream.set_nodelay(true)?;
        let Some((connector, name)) = &self.tls else { return Ok(Box::new(stream)) };
        let stream = connector.connect(name.clone(), stream).await?;
        if self.http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(io::Error::other("the server does not offer HTTP/2 (ALPN h2)"));
        }
        Ok(Box::new(stream))
    }
}

fn config(http2: bool, cacert: Option<&Path>) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots(cacert)?)
        .with_no_client_auth();
    config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok(config)
}

fn roots(cacert: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match cacert {
        Some(path) => {
            let wrong = |error: &dyn std::fmt::Display| format!("--cacert {}: {error}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
                let certificate = certificate.map_err(|error| wrong(&error))?;
                roots.add(certificate).map_err(|error| wrong(&error))?;
            }
            if roots.is_empty() {
                return Err(wrong(&"no certificate in it"));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err("this system has no certificates to trust: give --cacert".into());
            }
        }
    }
    Ok(roots)
}
