//! A small HTTP client, for health probes and the command line: one request, one connection, HTTP/1.1.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use attache_llm::provider::ApiBase;
use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::tls::certificates;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) tls: bool,
    /// Without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// For the `host` header.
    pub(crate) authority: String,
    /// With the query.
    pub(crate) path: String,
    /// A Unix socket instead of host and port.
    pub(crate) socket: Option<PathBuf>,
}

impl Target {
    /// `path` below a base URL; `None` if that is not one.
    pub(crate) fn below(url: &str, path: &str) -> Option<Self> {
        let ApiBase { tls, host, port, authority, path: base, .. } = ApiBase::parse(url)?;
        Some(Self { tls, host, port, authority, path: format!("{base}{path}"), socket: None })
    }

    /// `path` of a server behind a Unix socket.
    pub(crate) fn behind(socket: PathBuf, path: &str) -> Self {
        let (host, authority) = ("localhost".to_owned(), "localhost".to_owned());
        Self { tls: false, host, port: 0, authority, path: path.to_owned(), socket: Some(socket) }
    }
}

/// What is sent.
#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why there is no answer. Names no header and no credential.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    #[error("TLS: {0}")]
    Tls(String),
    #[error("{0}")]
    Http(String),
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
}

/// Verifies servers against one CA bundle.
#[derive(Clone)]
pub(crate) struct Client {
    /// `None`: the bundle cannot be read, and no TLS server can be asked.
    tls: Option<TlsConnector>,
}

impl Client {
    /// Reads the CA bundle.
    ///
    /// # Errors
    /// It cannot be read, or holds no certificate that can be used.
    pub(crate) fn new(ca_file: &Path) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        // As Envoy does: a certificate in the bundle that cannot be understood is no reason to trust none.
        let (usable, _) = roots.add_parsable_certificates(certificates(ca_file)?);
        anyhow::ensure!(usable > 0, "{} holds no certificate that can be used", ca_file.display());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("TLS")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Some(TlsConnector::from(Arc::new(config))) })
    }

    /// A client that asks plain servers only.
    pub(crate) fn without_tls() -> Self {
        Self { tls: None }
    }

    /// Can this target be asked?
    pub(crate) fn reaches(&self, target: &Target) -> bool {
        !target.tls || self.tls.is_some()
    }

    /// GET. The answer is read up to `limit` bytes; `None` when it is longer.
    pub(crate) async fn get(
        &self,
        target: &Target,
        headers: HeaderMap,
        limit: usize,
        patience: Duration,
    ) -> Result<(StatusCode, Option<Bytes>), ClientError> {
        self.send(target, Asked { headers, ..Asked::default() }, limit, patience).await
    }

    /// Any request; the answer as of [`Self::get`].
    pub(crate) async fn send(
        &self,
        target: &Target,
        asked: Asked,
        limit: usize,
        patience: Duration,
    ) -> Result<(StatusCode, Option<Bytes>), ClientError> {
        let answer = self.answer(target, asked, limit, patience).await?;
        Ok((answer.status(), answer.into_body()))
    }

    /// As [`Self::send`], with the headers of the answer.
    pub(crate) async fn answer(
        &self,
        target: &Target,
        asked: Asked,
        limit: usize,
        patience: Duration,
    ) -> Result<Response<Option<Bytes>>, ClientError> {
        // Dropping the exchange closes its connection.
        let asking = Box::pin(self.ask(target, asked, Take { limit, sink: None }));
        timeout(patience, asking).await.map_err(|_| ClientError::Timeout(patience))?
    }

    /// Any request, whose answer is written to `sink` as it comes, however long it is. That of a failure is kept, as of
    /// [`Self::get`].
    pub(crate) async fn download(
        &self,
        target: &Target,
        asked: Asked,
        limit: usize,
        sink: &mut (dyn Write + Send),
    ) -> Result<(StatusCode, Option<Bytes>), ClientError> {
        let answer = Box::pin(self.ask(target, asked, Take { limit, sink: Some(sink) })).await?;
        Ok((answer.status(), answer.into_body()))
    }

    async fn ask(
        &self,
        target: &Target,
        asked: Asked,
        limit: Take<'_>,
    ) -> Result<Response<Option<Bytes>>, ClientError> {
        if let Some(socket) = &target.socket {
            let stream = UnixStream::connect(socket).await.map_err(ClientError::Connect)?;
            return exchange(stream, target, asked, limit).await;
        }
        let stream = TcpStream::connect((target.host.as_str(), target.port));
        let stream = stream.await.map_err(ClientError::Connect)?;
        if !target.tls {
            return exchange(stream, target, asked, limit).await;
        }
        let tls = self.tls.as_ref().ok_or_else(|| ClientError::Tls("no CA bundle".to_owned()))?;
        let name = ServerName::try_from(target.host.clone());
        let name = name.map_err(|error| ClientError::Tls(error.to_string()))?;
        let stream = tls.connect(name, stream).await;
        let stream = stream.map_err(|error| ClientError::Tls(error.to_string()))?;
        exchange(stream, target, asked, limit).await
    }
}

/// What becomes of an answer's body.
struct Take<'a> {
    /// Most bytes that are kept.
    limit: usize,
    /// Where the body of a success goes instead.
    sink: Option<&'a mut (dyn Write + Send)>,
}

impl Take<'_> {
    /// `None`: it is longer than the limit.
    async fn take(self, status: StatusCode, mut body: Incoming) -> Result<Option<Bytes>, ClientError> {
        let Some(sink) = self.sink.filter(|_| status.is_success()) else {
            let body = Limited::new(body, self.limit).collect().await;
            return Ok(body.ok().map(|body| body.to_bytes()));
        };
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| ClientError::Http(format!("no whole answer: {error}")))?;
            if let Some(bytes) = frame.data_ref() {
                sink.write_all(bytes).map_err(|error| ClientError::Http(error.to_string()))?;
            }
        }
        Ok(Some(Bytes::new()))
    }
}

async fn exchange<S>(
    stream: S,
    target: &Target,
    asked: Asked,
    take: Take<'_>,
) -> Result<Response<Option<Bytes>>, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let failed = |error: hyper::Error| ClientError::Http(format!("no whole answer: {error}"));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let builder = http::Request::builder().method(asked.method).uri(&target.path);
    let mut request = builder.body(Full::new(asked.body));
    if let Ok(request) = &mut request {
        *request.headers_mut() = asked.headers;
        if let Ok(authority) = target.authority.parse() {
            request.headers_mut().insert(HOST, authority);
        }
    }
    let request = request.map_err(|error| ClientError::Http(error.to_string()))?;
    let answering = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        let (head, body) = response.into_parts();
        let body = take.take(head.status, body).await?;
        Ok(Response::from_parts(head, body))
    };
    tokio::pin!(answering);
    tokio::select! {
        biased;
        answer = &mut answering => answer,
        // The connection may end before its answer has been taken from it.
        ended = connection => match ended {
            Ok(()) => answering.await,
            Err(error) => Err(failed(error)),
        },
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
