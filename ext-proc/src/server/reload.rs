//! A new configuration without a restart: SIGHUP reads the file again.
//!
//! Envoy gets the new clusters before any plan names them, and keeps the old ones until no plan does:
//!
//! ```text
//! read and check      a file with an error changes nothing
//! publish old + new   wait until Envoy has acknowledged the new clusters
//! swap the snapshot   requests load it once each, so that none sees half of either
//! publish new         the old clusters are retired
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::envoy::Published;
use crate::routing::{LiveClusters, Snapshot, SnapshotHandle};

/// Longest wait for Envoy before new clusters are used: an Envoy that is away must not hold a change up.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Reads the configuration again and makes a snapshot of the given generation.
#[derive(Clone)]
pub struct Reload(Arc<dyn Fn(u64) -> anyhow::Result<Snapshot> + Send + Sync>);

impl Reload {
    /// `read` may block: it runs apart from the request path.
    pub fn new(read: impl Fn(u64) -> anyhow::Result<Snapshot> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reload")
    }
}

/// Reloads on every SIGHUP, for ever.
pub(super) async fn on_hangup(reload: Reload, published: Arc<Published>, snapshot: SnapshotHandle) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => return tracing::error!(%error, "SIGHUP cannot be heard: no reload"),
    };
    while hangup.recv().await.is_some() {
        match once(&reload, &published, &snapshot).await {
            Ok(generation) => tracing::info!(generation, "configuration reloaded"),
            Err(error) => tracing::error!(error = format!("{error:#}"), "configuration not reloaded"),
        }
    }
}

async fn once(reload: &Reload, published: &Published, handle: &SnapshotHandle) -> anyhow::Result<u64> {
    let old = handle.load_full();
    let (read, generation) = (Arc::clone(&reload.0), old.generation + 1);
    let new = tokio::task::spawn_blocking(move || read(generation)).await.context("reading stopped")??;
    let mut both = Snapshot { generation, deployments: old.deployments.clone(), ..Snapshot::default() };
    both.deployments
        .extend(new.deployments.iter().map(|(id, deployment)| (id.clone(), Arc::clone(deployment))));
    published.publish(&both).context("clusters for Envoy")?;
    acknowledged(published, &new).await;
    let new = Arc::new(new);
    handle.store(Arc::clone(&new));
    published.publish(&new).context("clusters for Envoy")?;
    Ok(generation)
}

/// Waits until Envoy has every cluster of the snapshot, or for [`PATIENCE`] (no Envoy, or one that refuses).
async fn acknowledged(published: &Published, snapshot: &Snapshot) {
    let deadline = Instant::now() + PATIENCE;
    while snapshot.deployments.values().any(|deployment| !published.is_live(&deployment.cluster)) {
        if Instant::now() >= deadline {
            tracing::warn!("not every cluster of the new configuration is acknowledged by Envoy");
            return;
        }
        sleep(LOOK_EVERY).await;
    }
}
