//! HTTP/2 with prior knowledge, or by ALPN on TLS: a few connections, many requests on each.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use h2::client::SendRequest;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use tokio::sync::Mutex;

use super::args::Plan;
use super::drive::Live;
use super::watch::{Failure, Watch};

/// Room that the server has for one answer and for all of a connection, so that it never waits for us.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;
/// HTTP/2 begins with this many streams until the server says how many it allows.
const FIRST_STREAMS: usize = 1000;

/// A connection that many workers share, and its successors after it has broken.
#[derive(Default)]
pub(super) struct Shared(Mutex<(u64, Option<SendRequest<Bytes>>)>);

impl Shared {
    /// A handle on the connection; on another one than number `bad`, which did not work any more.
    async fn handle(&self, bad: u64, plan: &Plan, live: &Live) -> Result<(u64, SendRequest<Bytes>), Failure> {
        let mut shared = self.0.lock().await;
        if shared.0 <= bad || shared.1.is_none() {
            *shared = (shared.0.max(bad) + 1, None);
            shared.1 = Some(open(plan, live).await?);
        }
        let handle = shared.1.clone().ok_or(Failure::Connect)?;
        Ok((shared.0, handle))
    }
}

async fn open(plan: &Plan, live: &Live) -> Result<SendRequest<Bytes>, Failure> {
    let io = plan.connector.connect().await?;
    let (handle, connection) = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(FIRST_STREAMS)
        .enable_push(false)
        .handshake(io)
        .await
        .map_err(|_| Failure::Connect)?;
    tokio::spawn(async move { drop(connection.await) });
    live.connects.fetch_add(1, Ordering::Relaxed);
    Ok(handle)
}

/// One worker's way to send on a shared connection.
pub(super) struct Sender {
    shared: Arc<Shared>,
    /// Number of the connection, and the handle on it.
    held: (u64, Option<SendRequest<Bytes>>),
}

impl Sender {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, held: (0, None) }
    }

    /// Connects, if the server lets it.
    pub(super) async fn prepare(&mut self, plan: &Plan, live: &Live) {
        self.held.1 = self.ready(plan, live).await.ok();
    }

    /// A handle that can send now. The server may have said goodbye since the last request: then on a new connection.
    async fn ready(&mut self, plan: &Plan, live: &Live) -> Result<SendRequest<Bytes>, Failure> {
        for _ in 0..2 {
            if self.held.1.is_none() {
                let (number, handle) = self.shared.handle(self.held.0, plan, live).await?;
                self.held = (number, Some(handle));
            }
            if let Some(handle) = self.held.1.take()
                && let Ok(handle) = handle.ready().await
            {
                return Ok(handle);
            }
        }
        Err(Failure::Connect)
    }

    pub(super) async fn exchange(
        &mut self,
        plan: &Plan,
        live: &Live,
        key: &[u8],
        watch: &mut Watch,
    ) -> Result<(), Failure> {
        let mut handle = self.ready(plan, live).await?;
        let body = plan.template.body.clone();
        let (response, mut sending) =
            handle.send_request(plan.template.request(key), body.is_empty()).map_err(|_| Failure::Broken)?;
        self.held.1 = Some(handle);
        if !body.is_empty() {
            sending.send_data(body, true).map_err(|_| Failure::Broken)?;
        }
        let (head, mut body) = response.await.map_err(|_| Failure::Broken)?.into_parts();
        let content_type = head.headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        watch.head(head.status.as_u16(), content_type, head.headers.contains_key(RETRY_AFTER));
        while let Some(piece) = body.data().await {
            let piece = piece.map_err(|_| Failure::Broken)?;
            watch.data(&piece);
            body.flow_control().release_capacity(piece.len()).map_err(|_| Failure::Broken)?;
        }
        Ok(())
    }
}
