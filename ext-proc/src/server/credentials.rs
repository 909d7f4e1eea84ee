//! Keeps the credentials of the configuration in force fresh, and Envoy's with them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::credentials::{Credential, Keyring, Source};
use crate::envoy::Published;
use crate::routing::{Snapshot, SnapshotHandle};

/// Longest wait for a new configuration's credentials: what has none by then is left out of plans until it has.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The sources of all deployments.
fn sources(snapshot: &Snapshot) -> HashSet<Arc<Source>> {
    let of = snapshot.deployments.values().filter_map(|deployment| deployment.credential.as_ref());
    of.filter_map(Credential::source).cloned().collect()
}

/// Asks the sources of a configuration that is about to come into force.
pub(super) async fn prepare(keyring: &Keyring, snapshot: &Snapshot) {
    keyring.prepare(sources(snapshot), PATIENCE).await;
}

/// Renews what is due, for as long as the process runs.
pub(super) async fn tend(keyring: Arc<Keyring>, snapshot: SnapshotHandle, published: Arc<Published>) {
    loop {
        let in_force = sources(&snapshot.load());
        if keyring.tend(&in_force).await {
            published.renew();
        }
        sleep(LOOK_EVERY).await;
    }
}
