//! Envoy metrics of the filter: names, bounded labels, cached ids.
//!
//! Envoy never frees a metric, and names come from configuration and from clients. Labels are therefore bounded: a
//! group counts under its own name once the sidecar has planned for it, anything else under `other`.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

/// Distinct model groups, and distinct deployments, with metrics of their own per worker.
const MAX_LABELS: usize = 1_000;
/// Label of everything beyond the bound.
const OTHER: &str = "other";

/// Where metrics go: Envoy, or a list in tests.
pub trait Meter {
    fn counter(&self, name: &str) -> Option<u32>;
    fn gauge(&self, name: &str) -> Option<u32>;
    fn histogram(&self, name: &str) -> Option<u32>;
    fn add(&self, id: u32, amount: i64);
    /// Sets a gauge, or adds a value to a histogram.
    fn record(&self, id: u32, value: u64);
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The metrics of one VM.
#[derive(Debug)]
pub struct Stats<M> {
    meter: M,
    ids: HashMap<String, u32>,
    groups: HashSet<String>,
    deployments: HashSet<String>,
    /// Reused for each name, so that a known metric costs no allocation.
    name: String,
    usage_pending: u64,
}

impl<M: Meter> Stats<M> {
    #[must_use]
    pub fn new(meter: M) -> Self {
        let (ids, groups, deployments) = (HashMap::new(), HashSet::new(), HashSet::new());
        Self { meter, ids, groups, deployments, name: String::new(), usage_pending: 0 }
    }

    /// The sidecar planned for `group`: it is real and gets metrics of its own.
    pub fn learn_group(&mut self, group: &str) {
        learn(&mut self.groups, group);
    }

    /// `attache.requests`: one finished request.
    pub fn request(&mut self, group: &str, outcome: &str) {
        self.start("requests");
        self.group(group);
        self.label("outcome", outcome);
        self.bump(Kind::Counter, 1);
    }

    /// `attache.auth`: one look at a key.
    pub fn auth(&mut self, result: &str) {
        self.start("auth");
        self.label("result", result);
        self.bump(Kind::Counter, 1);
    }

    /// `attache.attempts`: one upstream attempt.
    pub fn attempt(&mut self, group: &str, deployment: &str, outcome: &str) {
        self.start("attempts");
        self.deployment(group, deployment);
        self.label("outcome", outcome);
        self.bump(Kind::Counter, 1);
    }

    /// A counter by group and deployment, e.g. `tokens_input`.
    pub fn count_deployment(&mut self, what: &str, group: &str, deployment: &str, amount: u64) {
        if amount > 0 {
            self.start(what);
            self.deployment(group, deployment);
            self.bump(Kind::Counter, amount);
        }
    }

    /// `attache.error_class`: why an attempt failed.
    pub fn error_class(&mut self, group: &str, deployment: &str, class: &str) {
        self.start("error_class");
        self.deployment(group, deployment);
        self.label("class", class);
        self.bump(Kind::Counter, 1);
    }

    /// `attache.replans`: a request was planned anew after a failure of this class in `group`.
    pub fn replan(&mut self, group: &str, class: &str) {
        // Of a deployment, so from the configuration.
        self.learn_group(group);
        self.start("replans");
        self.group(group);
        self.label("class", class);
        self.bump(Kind::Counter, 1);
    }

    /// A counter by group, e.g. `fallbacks`.
    pub fn count_group(&mut self, what: &str, group: &str, amount: u64) {
        if amount > 0 {
            self.start(what);
            self.group(group);
            self.bump(Kind::Counter, amount);
        }
    }

    /// A histogram by group, e.g. `ttft_ms`.
    pub fn observe_group(&mut self, what: &str, group: &str, value: u64) {
        self.start(what);
        self.group(group);
        self.bump(Kind::Histogram, value);
    }

    /// A plain counter, e.g. `key_lookups`.
    pub fn count(&mut self, what: &str, amount: u64) {
        if amount > 0 {
            self.start(what);
            self.bump(Kind::Counter, amount);
        }
    }

    /// Gauge `attache.usage_pending`, summed over the workers: each adds only its own change.
    pub fn usage_pending(&mut self, pending: u64) {
        if pending == self.usage_pending {
            return;
        }
        let change = i64::try_from(i128::from(pending).saturating_sub(i128::from(self.usage_pending)));
        self.start("usage_pending");
        if let (Some(id), Ok(change)) = (self.id(Kind::Gauge), change) {
            self.meter.add(id, change);
            self.usage_pending = pending;
        }
    }

    fn start(&mut self, what: &str) {
        self.name.clear();
        self.name.push_str("attache.");
        self.name.push_str(what);
    }

    fn group(&mut self, group: &str) {
        let known = self.groups.contains(group);
        self.label("group", if known { group } else { OTHER });
    }

    fn deployment(&mut self, group: &str, deployment: &str) {
        // Both come from the configuration, not from a client.
        learn(&mut self.groups, group);
        learn(&mut self.deployments, deployment);
        self.group(group);
        let known = self.deployments.contains(deployment);
        self.label("deployment", if known { deployment } else { OTHER });
    }

    fn label(&mut self, name: &str, value: &str) {
        let _ = write!(self.name, ".{name}.");
        // A dot would start another label, a colon or space would break a metrics format.
        let plain =
            |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '/' { c } else { '_' };
        self.name.extend(value.chars().take(100).map(plain));
    }

    fn bump(&mut self, kind: Kind, amount: u64) {
        let Some(id) = self.id(kind) else { return };
        match kind {
            Kind::Counter => self.meter.add(id, i64::try_from(amount).unwrap_or(i64::MAX)),
            Kind::Gauge | Kind::Histogram => self.meter.record(id, amount),
        }
    }

    fn id(&mut self, kind: Kind) -> Option<u32> {
        if let Some(id) = self.ids.get(&self.name) {
            return Some(*id);
        }
        let id = match kind {
            Kind::Counter => self.meter.counter(&self.name),
            Kind::Gauge => self.meter.gauge(&self.name),
            Kind::Histogram => self.meter.histogram(&self.name),
        }?;
        self.ids.insert(self.name.clone(), id);
        Some(id)
    }
}

fn learn(labels: &mut HashSet<String>, label: &str) {
    if labels.len() < MAX_LABELS && !label.is_empty() && !labels.contains(label) {
        labels.insert(label.to_owned());
    }
}

#[cfg(test)]
#[path = "stats_tests.rs"]
mod tests;
