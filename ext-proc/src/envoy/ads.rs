//! The aggregated discovery service, delta variant: one stream per Envoy, clusters and secrets on it.

use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::published::Published;

/// Serves [`Published`] to any number of Envoys.
#[derive(Debug, Clone)]
pub struct AdsService {
    published: Arc<Published>,
}

impl AdsService {
    /// A service over this state.
    #[must_use]
    pub fn new(published: Arc<Published>) -> Self {
        Self { published }
    }

    /// The service as tonic routes it.
    #[must_use]
    pub fn into_server(self) -> AggregatedDiscoveryServiceServer<Self> {
        AggregatedDiscoveryServiceServer::new(self)
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for AdsService {
    type StreamAggregatedResourcesStream = ReceiverStream<Result<DiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        _request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("only delta xDS is served; set api_type: DELTA_GRPC"))
    }

    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (sender, receiver) = mpsc::channel(16);
        let session = SessionGuard::new(Arc::clone(&self.published));
        tokio::spawn(run(session, request.into_inner(), sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Drives one stream until either side ends it.
async fn run(
    session: SessionGuard,
    mut requests: Streaming<DeltaDiscoveryRequest>,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
) {
    let published = &session.published;
    let mut changes = published.changes();
    loop {
        if changes.borrow_and_update().closed {
            return;
        }
        for response in published.responses(session.id) {
            if responses.send(Ok(response)).await.is_err() {
                return;
            }
        }
        let wait = published.tick();
        tokio::select! {
            request = requests.message() => match request {
                Ok(Some(request)) => published.request(session.id, &request),
                Ok(None) => return,
                Err(status) => {
                    tracing::debug!(%status, "ADS stream ended");
                    return;
                }
            },
            changed = changes.changed() => if changed.is_err() { return },
            () = responses.closed() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Registration of a stream; gone with it, however it ends.
struct SessionGuard {
    published: Arc<Published>,
    id: u64,
}

impl SessionGuard {
    fn new(published: Arc<Published>) -> Self {
        let id = published.connect();
        Self { published, id }
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.published.disconnect(self.id);
    }
}
