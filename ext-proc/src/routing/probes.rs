use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::Serialize;

/// Outcome of a background health probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    pub healthy: bool,
    /// When it was probed, Unix milliseconds.
    pub checked_ms: u64,
    /// For operators: status and class, never an upstream's text.
    pub detail: String,
}

/// Last background probe per deployment. Empty unless the operator switched probes on.
#[derive(Debug, Default)]
pub struct Probes {
    health: ArcSwap<HashMap<String, Health>>,
}

impl Probes {
    /// Nothing probed yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Enters an outcome.
    pub fn set(&self, deployment: &str, health: Health) {
        self.health.rcu(|known| {
            let mut next = HashMap::clone(known);
            next.insert(deployment.to_owned(), health.clone());
            next
        });
    }

    /// Outcome of the last probe.
    #[must_use]
    pub fn get(&self, deployment: &str) -> Option<Health> {
        self.health.load().get(deployment).cloned()
    }

    /// Did the last probe fail? A deployment that was never probed is not ill.
    pub(super) fn is_ill(&self, deployment: &str) -> bool {
        self.health.load().get(deployment).is_some_and(|health| !health.healthy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_failed_probe_makes_ill() {
        let probes = Probes::new();
        assert!(!probes.is_ill("a"));
        let health = |healthy| Health { healthy, checked_ms: 1, detail: "status 200".into() };
        probes.set("a", health(false));
        assert!(probes.is_ill("a") && !probes.is_ill("b"));
        probes.set("a", health(true));
        assert!(!probes.is_ill("a"));
        assert_eq!(probes.get("a"), Some(health(true)));
    }
}
