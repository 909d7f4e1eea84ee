//! A new configuration without a restart: on SIGHUP, when one of its files has new content, or when a model of the
//! database was changed.
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

use super::credentials;
use super::stored::Follow;
use super::watch::Watch;
use crate::config::{IdentityRule, Origin};
use crate::credentials::Keyring;
use crate::envoy::Published;
use crate::keys::KeyDirectory;
use crate::routing::{LiveClusters, Snapshot, SnapshotHandle};
use crate::store::Directory;

/// Longest wait for Envoy before new clusters are used: an Envoy that is away must not hold a change up.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Longest error text that readiness shows, bytes.
const MAX_ERROR: usize = 4_096;

/// A configuration that was read and checked.
#[derive(Debug)]
pub struct Fresh {
    pub snapshot: Snapshot,
    /// Callers without a key (`features.identities`).
    pub identities: Vec<IdentityRule>,
    /// The files that it was read from.
    pub files: Vec<PathBuf>,
}

/// The way to Envoy.
pub(super) struct Reach {
    pub(super) published: Arc<Published>,
    pub(super) keyring: Arc<Keyring>,
}

type Read = dyn Fn(u64) -> anyhow::Result<Fresh> + Send + Sync;

/// Reads the configuration again and makes a snapshot of the given generation.
pub struct Reload {
    read: Arc<Read>,
    watch: Option<(Watch, Duration)>,
    follow: Option<Follow>,
}

impl Reload {
    /// `read` may block: it runs apart from the request path.
    pub fn new(read: impl Fn(u64) -> anyhow::Result<Fresh> + Send + Sync + 'static) -> Self {
        Self { read: Arc::new(read), watch: None, follow: None }
    }

    /// Also looks every `every` whether the root, what it includes, or one of `files` has changed; never if that is
    /// zero. The content as of now counts as known.
    #[must_use]
    pub fn watching(mut self, origin: Origin, files: Vec<PathBuf>, every: Duration) -> Self {
        self.watch = (!every.is_zero()).then(|| (Watch::new(origin, files), every));
        self
    }

    /// Also asks the database every `every` whether its models have changed since `cursor`; never if that is zero.
    #[must_use]
    pub fn following(mut self, cursor: Option<u64>, every: Duration) -> Self {
        self.follow = (!every.is_zero()).then_some(Follow { cursor, every });
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

/// Reloads on every SIGHUP and on every change of a watched file or a model of the database, for ever.
pub(super) async fn run(
    reload: Reload,
    directory: Arc<dyn Directory>,
    reach: Reach,
    snapshot: SnapshotHandle,
    keys: Arc<KeyDirectory>,
    state: Arc<ReloadState>,
) {
    let Reload { read, mut watch, mut follow } = reload;
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
        let stored = async {
            match &mut follow {
                Some(follow) => follow.changed(&*directory).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            asked = asked => if asked.is_none() { hangup = None; continue },
            () = changed => {}
            () = stored => {}
        }
        if let Some((watch, _)) = &mut watch {
            // Taken before it is read: what changes meanwhile is seen as a change.
            watch.take().await;
        }
        let outcome = once(&read, &reach, &snapshot, &keys).await;
        if let Some((watch, _)) = &mut watch {
            if let Ok((_, files)) = &outcome {
                watch.also(files.clone()).await;
            }
            watch.took_objects();
        }
        state.ended(&outcome.map(|(generation, _)| generation));
    }
}

async fn once(
    read: &Arc<Read>,
    Reach { published, keyring }: &Reach,
    handle: &SnapshotHandle,
    keys: &KeyDirectory,
) -> anyhow::Result<(u64, Vec<PathBuf>)> {
    let old = handle.load_full();
    let (read, generation) = (Arc::clone(read), old.generation + 1);
    let Fresh { snapshot: new, identities, files } =
        tokio::task::spawn_blocking(move || read(generation)).await.context("reading stopped")??;
    // An emptied file is a mistake, or half of a change: an operator who wants no models stops the sidecar.
    if new.deployments.is_empty() && !old.deployments.is_empty() {
        bail!("no model is left: model_list is empty");
    }
    credentials::prepare(keyring, &new).await;
    let mut both = Snapshot { generation, deployments: old.deployments.clone(), ..Snapshot::default() };
    both.deployments
        .extend(new.deployments.iter().map(|(id, deployment)| (id.clone(), Arc::clone(deployment))));
    published.publish(&both).context("clusters for Envoy")?;
    acknowledged(published, &new).await;
    let new = Arc::new(new);
    handle.store(Arc::clone(&new));
    keys.identify(&identities);
    published.publish(&new).context("clusters for Envoy")?;
    Ok((generation, files))
}

/// Waits until every Envoy has every cluster of the snapshot, or for [`PATIENCE`] if one refuses. Without an Envoy there
/// is no plan to protect.
async fn acknowledged(published: &Published, snapshot: &Snapshot) {
    let deadline = Instant::now() + PATIENCE;
    let lacks = || {
        let live = published.view();
        let waits = |cluster: &str| !live.is_live(cluster) && live.lacks(cluster).is_none();
        snapshot.deployments.values().any(|deployment| waits(&deployment.cluster))
    };
    while published.status().streams > 0 && lacks() {
        if Instant::now() >= deadline {
            tracing::warn!("not every cluster of the new configuration is acknowledged by Envoy");
            return;
        }
        sleep(LOOK_EVERY).await;
    }
}
