//! A new configuration without a restart: on SIGHUP, or when one of its files has new content.
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
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use attache_llm::error::mask_secrets;
use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use super::watch::Watch;
use crate::envoy::Published;
use crate::routing::{LiveClusters, Snapshot, SnapshotHandle};

/// Longest wait for Envoy before new clusters are used: an Envoy that is away must not hold a change up.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Longest error text that readiness shows, bytes.
const MAX_ERROR: usize = 4_096;

/// A configuration that was read and checked.
#[derive(Debug)]
pub struct Fresh {
    pub snapshot: Snapshot,
    /// The files that it was read from.
    pub files: Vec<PathBuf>,
}

type Read = dyn Fn(u64) -> anyhow::Result<Fresh> + Send + Sync;

/// Reads the configuration again and makes a snapshot of the given generation.
pub struct Reload {
    read: Arc<Read>,
    watch: Option<(Watch, Duration)>,
}

impl Reload {
    /// `read` may block: it runs apart from the request path.
    pub fn new(read: impl Fn(u64) -> anyhow::Result<Fresh> + Send + Sync + 'static) -> Self {
        Self { read: Arc::new(read), watch: None }
    }

    /// Also looks every `every` whether `root`, what it includes, or one of `files` has changed; never if that is
    /// zero. The content as of now counts as known.
    #[must_use]
    pub fn watching(mut self, root: PathBuf, files: Vec<PathBuf>, every: Duration) -> Self {
        self.watch = (!every.is_zero()).then(|| (Watch::new(root, files), every));
        self
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reload")
    }
}

/// How reloading went, for readiness and metrics.
#[derive(Debug, Default)]
pub(super) struct ReloadState {
    failures: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl ReloadState {
    /// Configurations refused since the start.
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Why the newest configuration is not in force; `None` when it is.
    pub(super) fn last_error(&self) -> Option<String> {
        self.last_error.lock().clone()
    }

    fn ended(&self, outcome: &anyhow::Result<u64>) {
        match outcome {
            Ok(generation) => {
                *self.last_error.lock() = None;
                tracing::info!(generation, "configuration reloaded");
            }
            Err(error) => {
                let error = shown(&format!("{error:#}"));
                tracing::error!(error, "configuration not reloaded, the one in force stays");
                self.failures.fetch_add(1, Ordering::Relaxed);
                *self.last_error.lock() = Some(error);
            }
        }
    }
}

/// Errors of the configuration name paths, not values; should one have a key in it all the same, it is masked.
fn shown(error: &str) -> String {
    let mut text = mask_secrets(error);
    if text.len() > MAX_ERROR {
        text.truncate(text.floor_char_boundary(MAX_ERROR));
        text.push_str(" ...");
    }
    text
}

/// Reloads on every SIGHUP and on every change of a watched file, for ever.
pub(super) async fn run(
    reload: Reload,
    published: Arc<Published>,
    snapshot: SnapshotHandle,
    state: Arc<ReloadState>,
) {
    let Reload { read, mut watch } = reload;
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => Some(hangup),
        Err(error) => {
            tracing::error!(%error, "SIGHUP cannot be heard");
            None
        }
    };
    loop {
        let asked = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        let changed = async {
            match &mut watch {
                Some((watch, every)) => watch.changed(*every).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            asked = asked => if asked.is_none() { hangup = None; continue },
            () = changed => {}
        }
        if let Some((watch, _)) = &mut watch {
            // Taken before it is read: what changes meanwhile is seen as a change.
            watch.take().await;
        }
        let outcome = once(&read, &published, &snapshot).await;
        if let (Ok((_, files)), Some((watch, _))) = (&outcome, &mut watch) {
            watch.also(files.clone()).await;
        }
        state.ended(&outcome.map(|(generation, _)| generation));
    }
}

async fn once(
    read: &Arc<Read>,
    published: &Published,
    handle: &SnapshotHandle,
) -> anyhow::Result<(u64, Vec<PathBuf>)> {
    let old = handle.load_full();
    let (read, generation) = (Arc::clone(read), old.generation + 1);
    let Fresh { snapshot: new, files } =
        tokio::task::spawn_blocking(move || read(generation)).await.context("reading stopped")??;
    // An emptied file is a mistake, or half of a change: an operator who wants no models stops the sidecar.
    if new.deployments.is_empty() && !old.deployments.is_empty() {
        bail!("no model is left: model_list is empty");
    }
    let mut both = Snapshot { generation, deployments: old.deployments.clone(), ..Snapshot::default() };
    both.deployments
        .extend(new.deployments.iter().map(|(id, deployment)| (id.clone(), Arc::clone(deployment))));
    published.publish(&both).context("clusters for Envoy")?;
    acknowledged(published, &new).await;
    let new = Arc::new(new);
    handle.store(Arc::clone(&new));
    published.publish(&new).context("clusters for Envoy")?;
    Ok((generation, files))
}

/// Waits until every Envoy has every cluster of the snapshot, or for [`PATIENCE`] if one refuses. Without an Envoy there
/// is no plan to protect.
async fn acknowledged(published: &Published, snapshot: &Snapshot) {
    let deadline = Instant::now() + PATIENCE;
    while published.status().streams > 0
        && snapshot.deployments.values().any(|deployment| !published.is_live(&deployment.cluster))
    {
        if Instant::now() >= deadline {
            tracing::warn!("not every cluster of the new configuration is acknowledged by Envoy");
            return;
        }
        sleep(LOOK_EVERY).await;
    }
}
