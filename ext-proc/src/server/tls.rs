//! Mutual TLS: whoever calls must show a certificate of the client CA.
//!
//! Certificate, key and CA are read again when one of the files has new content: connections that are made from then on
//! use it, those that stand go on. Files that do not fit together change nothing.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use super::serve::TlsOptions;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Certificate and key are two files: what is new must stay the same for so long.
const SETTLE: Duration = Duration::from_millis(200);

/// What new connections are accepted with.
#[derive(Clone)]
pub(super) struct Acceptor {
    options: Arc<TlsOptions>,
    current: Arc<ArcSwap<ServerConfig>>,
}

impl Acceptor {
    /// Reads certificate, key and client CA.
    pub(super) fn new(options: &TlsOptions) -> anyhow::Result<Self> {
        let current = Arc::new(ArcSwap::new(server_config(options)?));
        Ok(Self { options: Arc::new(options.clone()), current })
    }

    pub(super) fn current(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }

    /// Follows the files, for ever.
    pub(super) async fn follow(self) {
        let mut seen = self.look().await;
        loop {
            sleep(LOOK_EVERY).await;
            let new = self.look().await;
            if new == seen {
                continue;
            }
            sleep(SETTLE).await;
            if self.look().await != new {
                continue;
            }
            seen = new;
            self.reload();
        }
    }

    fn reload(&self) {
        match server_config(&self.options) {
            Ok(config) => {
                self.current.store(config);
                tracing::info!(cert = %self.options.cert.display(), "TLS certificates reloaded");
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(error, "TLS certificates not reloaded, those in force stay");
            }
        }
    }

    /// A fingerprint of all three files.
    async fn look(&self) -> [u8; 32] {
        let options = Arc::clone(&self.options);
        let looked = tokio::task::spawn_blocking(move || {
            let mut all = Sha256::new();
            for file in [&options.cert, &options.key, &options.client_ca] {
                all.update(Sha256::digest(std::fs::read(file).unwrap_or_default()));
            }
            all.finalize().into()
        });
        looked.await.unwrap_or_default()
    }
}

fn server_config(options: &TlsOptions) -> anyhow::Result<Arc<ServerConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&options.client_ca)? {
        roots.add(certificate).with_context(|| format!("{}", options.client_ca.display()))?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&options.cert)?, private_key(&options.key)?)
        .with_context(|| format!("{} and {}", options.cert.display(), options.key.display()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn open(path: &Path) -> anyhow::Result<BufReader<File>> {
    Ok(BufReader::new(File::open(path).with_context(|| format!("cannot read {}", path.display()))?))
}

pub(super) fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = rustls_pemfile::certs(&mut open(path)?).collect();
    let found = found.with_context(|| format!("cannot read {}", path.display()))?;
    if found.is_empty() {
        bail!("{} holds no PEM certificate", path.display());
    }
    Ok(found)
}

fn private_key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let key = rustls_pemfile::private_key(&mut open(path)?);
    let key = key.with_context(|| format!("cannot read {}", path.display()))?;
    key.with_context(|| format!("{} holds no PEM private key", path.display()))
}
