//! Which clusters every connected Envoy has.

use std::time::Instant;

use super::{LAG, SETTLE, State};

pub(super) enum ClusterVerdict {
    Live,
    Settling,
    Waiting,
    Rejected,
}

impl State {
    pub(super) fn join(&mut self, now: Instant) {
        for session in self.sessions.values_mut().filter(|session| !session.joined) {
            // Settled, not merely acknowledged: an Envoy that joins sooner would make clusters that the others serve
            // look unsettled, and for that moment plans would be without them.
            let settled =
                |at: Option<Instant>| at.is_some_and(|at| now.saturating_duration_since(at) >= SETTLE);
            let whole = session.clusters.is_idle(&self.clusters)
                && self.clusters.iter().filter(|(_, item)| item.retire_at.is_none()).all(|(cluster, _)| {
                    session.clusters.is_rejected(cluster) || settled(session.clusters.acknowledged(cluster))
                })
                && self.secret_of.iter().all(|(cluster, secret)| {
                    session.clusters.is_rejected(cluster) || settled(session.secrets.acknowledged(secret))
                });
            let late = now.saturating_duration_since(session.since) >= LAG;
            if late && !whole {
                tracing::warn!(node = session.node, "an Envoy has not taken all clusters within {LAG:?}");
            }
            session.joined = (whole || late) && session.clusters.started();
        }
    }

    /// A cluster is live when all joined Envoys have it and its secret; one that lags does not hold up the others.
    pub(super) fn verdict(&self, cluster: &str, now: Instant) -> ClusterVerdict {
        if let Some(fixed) = &self.fixed {
            return if fixed.contains_key(cluster) { ClusterVerdict::Live } else { ClusterVerdict::Waiting };
        }
        let secret = self.secret_of.get(cluster);
        let mut known = false;
        let mut settling = false;
        for session in self.sessions.values().filter(|session| session.joined) {
            if session.clusters.is_rejected(cluster) {
                return ClusterVerdict::Rejected;
            }
            let has_cluster = session.clusters.acknowledged(cluster);
            let has_secret = secret.map_or(has_cluster, |name| session.secrets.acknowledged(name));
            match (has_cluster, has_secret) {
                (Some(cluster), Some(secret)) => {
                    known = true;
                    settling |= now.saturating_duration_since(cluster.max(secret)) < SETTLE;
                }
                _ if session.lags(cluster, now) => {}
                _ => return ClusterVerdict::Waiting,
            }
        }
        match (known, settling) {
            (true, false) => ClusterVerdict::Live,
            (true, true) => ClusterVerdict::Settling,
            (false, _) => ClusterVerdict::Waiting,
        }
    }
}
