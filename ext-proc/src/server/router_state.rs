use std::sync::Arc;

use crate::routing::{Breakers, Context, Keys, LiveClusters, Probes, Snapshot, Speeds};
use crate::store::Counters;

/// What routing knows beside the configuration, shared by every request and the admin API.
#[derive(Clone)]
pub struct RouterState {
    pub counters: Arc<dyn Counters>,
    pub live: Arc<dyn LiveClusters>,
    pub breakers: Arc<Breakers>,
    pub speeds: Arc<Speeds>,
    pub probes: Arc<Probes>,
}

impl RouterState {
    /// Nothing known yet.
    #[must_use]
    pub fn new(counters: Arc<dyn Counters>, live: Arc<dyn LiveClusters>) -> Self {
        Self { counters, live, breakers: Breakers::new(), speeds: Speeds::new(), probes: Probes::new() }
    }

    /// What one decision needs.
    #[must_use]
    pub fn context<'a>(&'a self, snapshot: Arc<Snapshot>, keys: &'a dyn Keys) -> Context<'a> {
        Context {
            snapshot,
            keys,
            counters: &self.counters,
            live: &*self.live,
            breakers: &self.breakers,
            speeds: &self.speeds,
            probes: &self.probes,
        }
    }
}
