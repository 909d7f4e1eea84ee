//! One stack for every listener: accept, perhaps TLS, HTTP/2 or HTTP/1.1, router, graceful end.

use std::future::Future;
use std::io;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::listen::UnixSocket;
use super::tls::Acceptor;

/// Streams per connection. Envoy opens one connection per worker and one stream per request in flight.
const MAX_STREAMS: u32 = 16_384;
/// Streams that Envoy may reset before they are accepted (clients hanging up) without losing its connection.
const MAX_PENDING_RESETS: usize = 4_096;
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// Pause after a failed accept (no file descriptors left), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What every listener of the process shares.
#[derive(Clone)]
pub(super) struct Connections {
    /// Stops accepting, and asks connections to end when their streams have.
    pub(super) stop: CancellationToken,
    pub(super) open: TaskTracker,
}

impl Connections {
    pub(super) fn new() -> Self {
        Self { stop: CancellationToken::new(), open: TaskTracker::new() }
    }

    /// Serves a Unix socket until told to stop; then its file is removed.
    pub(super) async fn serve_unix(self, socket: UnixSocket, router: Router) {
        while let Some(accepted) = self.next(socket.accept()).await {
            if let Some(stream) = accepted {
                self.open.spawn(connection(stream, router.clone(), self.stop.clone()));
            }
        }
    }

    /// Serves TCP, with mutual TLS if there is an acceptor.
    pub(super) async fn serve_tcp(self, listener: TcpListener, tls: Option<Acceptor>, router: Router) {
        while let Some(accepted) = self.next(listener.accept()).await {
            let Some((stream, peer)) = accepted else { continue };
            // A decision is one small frame each way: waiting for more to send would double its time.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%peer, %error, "no TCP_NODELAY");
            }
            let (router, stop) = (router.clone(), self.stop.clone());
            let tls = tls.as_ref().map(Acceptor::current);
            self.open.spawn(async move {
                let Some(tls) = tls else { return connection(stream, router, stop).await };
                match timeout(HANDSHAKE_PATIENCE, tls.accept(stream)).await {
                    Ok(Ok(stream)) => connection(stream, router, stop).await,
                    Ok(Err(error)) => tracing::warn!(%peer, %error, "TLS handshake failed"),
                    Err(_) => tracing::warn!(%peer, "TLS handshake took too long"),
                }
            });
        }
    }

    /// `None` when told to stop, `Some(None)` when accepting failed.
    async fn next<T>(&self, accept: impl Future<Output = io::Result<T>>) -> Option<Option<T>> {
        let accepted = tokio::select! {
            biased;
            () = self.stop.cancelled() => return None,
            accepted = accept => accepted,
        };
        match accepted {
            Ok(accepted) => Some(Some(accepted)),
            Err(error) => {
                tracing::error!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                Some(None)
            }
        }
    }
}

async fn connection<S>(stream: S, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS);
    let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(serving);
    let outcome = tokio::select! {
        outcome = serving.as_mut() => outcome,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "connection ended");
    }
}
