//! Which clusters Envoy has, where no Envoy can say.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{ClusterVerdict, LOOK_EVERY, Published, State};

/// With several sidecars an Envoy has its stream to one of them and asks them all. One that no Envoy has its stream to
/// takes a cluster of a changed configuration for known after this: the sidecar with the stream reads the same file, if not
/// at the same moment.
pub(super) const ASSUME_AFTER: Duration = Duration::from_secs(5);

impl Published {
    /// Keeps what is assumed up to date while no Envoy is connected: it changes with time, and without a stream nobody looks
    /// at the clock. Ends with the process.
    pub async fn assume(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if self.state.lock().sessions.is_empty() {
                self.tick();
            }
        }
    }
}

impl State {
    /// Notes which clusters of a configuration are new. At the start none is: whoever asks has them from before, or from
    /// another sidecar.
    pub(super) fn expect(&mut self, names: &BTreeSet<String>, now: Instant) {
        let State { clusters, held, assumed_at, refused, generation, .. } = self;
        refused.clear();
        assumed_at.retain(|name, at| names.contains(name) && *at > now);
        let known = |name: &String| clusters.get(name).is_some_and(|item| item.retire_at.is_none());
        if generation.is_some() {
            let new = names.iter().filter(|name| !known(name) && !held.contains_key(*name));
            for name in new {
                assumed_at.entry(name.clone()).or_insert(now + ASSUME_AFTER);
            }
        }
    }

    /// Whether an Envoy has a cluster, where none has said anything yet: after a start, or with the stream at another sidecar.
    pub(super) fn assumed(&self, cluster: &str, now: Instant) -> ClusterVerdict {
        if self.refused.contains(cluster) {
            return ClusterVerdict::Rejected;
        }
        match self.assumed_at.get(cluster) {
            Some(at) if *at > now => ClusterVerdict::Settling,
            _ => ClusterVerdict::Live,
        }
    }
}
