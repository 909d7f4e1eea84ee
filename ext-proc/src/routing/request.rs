use std::collections::HashMap;
use std::sync::Arc;

use attache_llm::contract::{Ask, MAX_PASSES, Tried};
use attache_llm::path::Endpoint;

use super::admission::Estimate;
use super::breakers::state_in;
use super::{Access, Breaker, LiveView, Probes, Snapshot, Speeds};
use crate::store::Circuit;

/// A question and everything that its answer is made from, at one moment. What is decided from it does no I/O.
pub(super) struct Request<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) ask: &'a Ask,
    pub(super) access: Access<'a>,
    pub(super) live: Arc<dyn LiveView>,
    pub(super) circuits: Arc<HashMap<String, Circuit>>,
    pub(super) speeds: &'a Speeds,
    pub(super) probes: &'a Probes,
    /// Unix milliseconds.
    pub(super) now_ms: u64,
    pub(super) estimate: Estimate,
}

impl<'a> Request<'a> {
    pub(super) fn tried(&self) -> &'a [Tried] {
        self.ask.replan.as_ref().map_or(&[], |replan| &replan.tried)
    }

    pub(super) fn pass(&self) -> u32 {
        self.ask.replan.as_ref().map_or(0, |replan| replan.pass)
    }

    /// May this pass be followed by another? Envoy redirects no request whose end is still to come, as that of a session.
    pub(super) fn may_replan(&self) -> bool {
        self.ask.endpoint != Endpoint::Realtime && self.pass().saturating_add(1) < MAX_PASSES
    }

    pub(super) fn minute(&self) -> u64 {
        self.now_ms / 60_000
    }

    pub(super) fn breaker(&self, deployment: &str) -> Breaker {
        if self.circuits.is_empty() {
            return Breaker::Closed;
        }
        state_in(&self.circuits, deployment, self.now_ms)
    }
}
