//! What one connected Envoy has been sent and has acknowledged: the delta protocol without its transport.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource,
};
use envoy_types::pb::google::protobuf::Any;

/// Resources per response. Envoy applies a response in one go on its main thread.
const MAX_PER_RESPONSE: usize = 200;

/// A published resource: a cluster or a secret.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) version: String,
    pub(super) body: Any,
    /// Set when the resource left the configuration: it is withdrawn from Envoy at this time.
    pub(super) retire_at: Option<Instant>,
}

/// A refused resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Nack {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) message: String,
}

/// One resource type on one stream.
#[derive(Debug, Default)]
pub(super) struct TypeState {
    /// Has Envoy asked for this type at all?
    started: bool,
    wildcard: bool,
    names: BTreeSet<String>,
    /// Version last sent, and when.
    sent: HashMap<String, (String, Instant)>,
    /// Since when Envoy has had the resource, in whichever version.
    acknowledged: HashMap<String, Instant>,
    /// Refused in the version last sent, and why.
    rejected: HashMap<String, String>,
    /// To be sent in a response of their own: a refusal names no resource reliably, so that of a response of one
    /// resource is the only one that tells.
    alone: BTreeSet<String>,
    in_flight: HashMap<String, Flight>,
    nonce: u64,
}

/// What a response carried.
#[derive(Debug, Default)]
struct Flight {
    added: Vec<(String, String)>,
    removed: Vec<String>,
}

impl TypeState {
    pub(super) fn started(&self) -> bool {
        self.started
    }

    /// Since when Envoy has had this resource.
    pub(super) fn acknowledged(&self, name: &str) -> Option<Instant> {
        self.acknowledged.get(name).copied()
    }

    pub(super) fn is_rejected(&self, name: &str) -> bool {
        self.rejected.contains_key(name)
    }

    pub(super) fn rejected(&self) -> impl Iterator<Item = (&String, &String)> {
        self.rejected.iter()
    }

    /// When the version in force was sent, if Envoy has been sent any.
    pub(super) fn sent_at(&self, name: &str) -> Option<Instant> {
        self.sent.get(name).map(|(_, at)| *at)
    }

    /// Takes a request: subscriptions, and the answer to an earlier response. Returns the resources refused for good.
    pub(super) fn request(
        &mut self,
        request: &DeltaDiscoveryRequest,
        now: Instant,
        settled: Instant,
    ) -> Vec<Nack> {
        if !self.started {
            self.started = true;
            // A wildcard subscription may be said by saying nothing in the first request of a stream.
            self.wildcard = request.resource_names_subscribe.is_empty();
            for (name, version) in &request.initial_resource_versions {
                self.sent.insert(name.clone(), (version.clone(), settled));
                self.acknowledged.insert(name.clone(), settled);
            }
        }
        for name in &request.resource_names_subscribe {
            if name == "*" {
                self.wildcard = true;
                continue;
            }
            // Asked for by name again: Envoy waits for an answer, unless it has just told that it has the resource.
            if !self.names.insert(name.clone()) || !request.initial_resource_versions.contains_key(name) {
                self.sent.remove(name);
            }
        }
        for name in &request.resource_names_unsubscribe {
            self.wildcard &= name != "*";
            self.names.remove(name);
            self.forget(name);
        }
        match (self.in_flight.remove(&request.response_nonce), &request.error_detail) {
            (Some(flight), None) => {
                self.acknowledge(flight, now);
                Vec::new()
            }
            (Some(flight), Some(error)) => self.reject(flight, &error.message),
            (None, _) => Vec::new(),
        }
    }

    fn acknowledge(&mut self, flight: Flight, now: Instant) {
        for (name, _) in flight.added {
            self.rejected.remove(&name);
            self.alone.remove(&name);
            self.acknowledged.entry(name).or_insert(now);
        }
        for name in flight.removed {
            if !self.sent.contains_key(&name) {
                self.acknowledged.remove(&name);
            }
        }
    }

    /// A refused response of several resources says little: each is sent again on its own.
    fn reject(&mut self, flight: Flight, message: &str) -> Vec<Nack> {
        let single = flight.added.len() == 1 && flight.removed.is_empty();
        let mut nacks = Vec::new();
        for (name, version) in flight.added {
            if self.sent.get(&name).is_none_or(|(sent, _)| *sent != version) {
                continue; // superseded meanwhile
            }
            if single {
                self.rejected.insert(name.clone(), message.to_owned());
                nacks.push(Nack { name, version, message: message.to_owned() });
            } else {
                self.sent.remove(&name);
                self.alone.insert(name);
            }
        }
        nacks
    }

    fn forget(&mut self, name: &str) {
        self.sent.remove(name);
        self.acknowledged.remove(name);
        self.rejected.remove(name);
        self.alone.remove(name);
    }

    fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Is there nothing to send and nothing to wait for?
    pub(super) fn is_idle(&self, items: &BTreeMap<String, Item>) -> bool {
        self.started && self.in_flight.is_empty() && self.changed(items).next().is_none()
    }

    fn changed<'a>(
        &'a self,
        items: &'a BTreeMap<String, Item>,
    ) -> impl Iterator<Item = (&'a String, &'a Item)> {
        items.iter().filter(|(name, item)| {
            self.wants(name) && self.sent.get(*name).is_none_or(|(sent, _)| *sent != item.version)
        })
    }

    /// What Envoy lacks. `removable`: names that vanished are withdrawn (clusters; a secret goes with its cluster).
    pub(super) fn responses(
        &mut self,
        type_url: &str,
        items: &BTreeMap<String, Item>,
        removable: bool,
        now: Instant,
    ) -> Vec<DeltaDiscoveryResponse> {
        if !self.started {
            return Vec::new();
        }
        let first = self.nonce == 0;
        let (single, shared): (Vec<_>, Vec<_>) = self
            .changed(items)
            .map(|(name, item)| (name.clone(), item.version.clone(), item.body.clone()))
            .partition(|(name, _, _)| self.alone.contains(name));
        let mut removed: Vec<String> = Vec::new();
        if removable {
            removed = self.sent.keys().filter(|name| !items.contains_key(*name)).cloned().collect();
        }
        let mut batches: Vec<Vec<_>> = shared.chunks(MAX_PER_RESPONSE).map(<[_]>::to_vec).collect();
        batches.extend(single.into_iter().map(|resource| vec![resource]));
        let mut responses: Vec<_> =
            batches.into_iter().map(|batch| self.response(type_url, batch, Vec::new(), now)).collect();
        // The first answer to a wildcard subscription ends Envoy's initial wait, so it is sent even when empty.
        if !removed.is_empty() || (first && responses.is_empty() && self.wildcard) {
            for name in &removed {
                self.forget(name);
            }
            responses.push(self.response(type_url, Vec::new(), removed, now));
        }
        responses
    }

    fn response(
        &mut self,
        type_url: &str,
        batch: Vec<(String, String, Any)>,
        removed: Vec<String>,
        now: Instant,
    ) -> DeltaDiscoveryResponse {
        self.nonce += 1;
        let nonce = self.nonce.to_string();
        let mut flight = Flight { added: Vec::with_capacity(batch.len()), removed: removed.clone() };
        let mut resources = Vec::with_capacity(batch.len());
        for (name, version, body) in batch {
            self.sent.insert(name.clone(), (version.clone(), now));
            self.rejected.remove(&name);
            flight.added.push((name.clone(), version.clone()));
            resources.push(Resource { name, version, resource: Some(body), ..Default::default() });
        }
        self.in_flight.insert(nonce.clone(), flight);
        DeltaDiscoveryResponse {
            resources,
            type_url: type_url.to_owned(),
            removed_resources: removed,
            nonce,
            ..Default::default()
        }
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
