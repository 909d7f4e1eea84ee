//! Envoy metrics of the filter: names, bounded labels, cached ids.
//!
//! Envoy never frees a metric, and names come from configuration and from clients. Labels are therefore bounded: a
//! group counts under its own name once the sidecar has planned for it, anything else under `other`.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::fast::FixedState;

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
    /// Ids by a hash of name and labels: most requests count under ten names, and building and comparing them took
    /// longer than counting.
    ids: HashMap<u64, u32, FixedState>,
    groups: HashSet<String, FixedState>,
    deployments: HashSet<String, FixedState>,
    usage_pending: u64,
}

/// Labels of a metric, with their names.
type Labels<'a> = [(&'static str, &'a str)];

impl<M: Meter> Stats<M> {
    #[must_use]
    pub fn new(meter: M) -> Self {
        let (ids, groups, deployments) = (HashMap::default(), HashSet::default(), HashSet::default());
        Self { meter, ids, groups, deployments, usage_pending: 0 }
    }

    /// The sidecar planned for `group`: it is real and gets metrics of its own.
    pub fn learn_group(&mut self, group: &str) {
        learn(&mut self.groups, group);
    }

    /// `attache.requests`: one finished request.
    pub fn request(&mut self, group: &str, outcome: &str) {
        self.bump(Kind::Counter, "requests", &[("group", self.group(group)), ("outcome", outcome)], 1);
    }

    /// `attache.auth`: one look at a key.
    pub fn auth(&mut self, result: &str) {
        self.bump(Kind::Counter, "auth", &[("result", result)], 1);
    }

    /// `attache.attempts`: one upstream attempt.
    pub fn attempt(&mut self, group: &str, deployment: &str, outcome: &str) {
        self.of_deployment("attempts", group, deployment, Some(("outcome", outcome)), 1);
    }

    /// A counter by group and deployment, e.g. `tokens_input`.
    pub fn count_deployment(&mut self, what: &'static str, group: &str, deployment: &str, amount: u64) {
        if amount > 0 {
            self.of_deployment(what, group, deployment, None, amount);
        }
    }

    /// `attache.error_class`: why an attempt failed.
    pub fn error_class(&mut self, group: &str, deployment: &str, class: &str) {
        self.of_deployment("error_class", group, deployment, Some(("class", class)), 1);
    }

    /// `attache.replans`: a request was planned anew after a failure of this class in `group`.
    pub fn replan(&mut self, group: &str, class: &str) {
        // Of a deployment, so from the configuration.
        self.learn_group(group);
        self.bump(Kind::Counter, "replans", &[("group", self.group(group)), ("class", class)], 1);
    }

    /// A counter by group, e.g. `fallbacks`.
    pub fn count_group(&mut self, what: &'static str, group: &str, amount: u64) {
        if amount > 0 {
            self.bump(Kind::Counter, what, &[("group", self.group(group))], amount);
        }
    }

    /// A histogram by group, e.g. `ttft_ms`.
    pub fn observe_group(&mut self, what: &'static str, group: &str, value: u64) {
        self.bump(Kind::Histogram, what, &[("group", self.group(group))], value);
    }

    /// A plain counter, e.g. `key_lookups`.
    pub fn count(&mut self, what: &'static str, amount: u64) {
        if amount > 0 {
            self.bump(Kind::Counter, what, &[], amount);
        }
    }

    /// Gauge `attache.usage_pending`, summed over the workers: each adds only its own change.
    pub fn usage_pending(&mut self, pending: u64) {
        if pending == self.usage_pending {
            return;
        }
        let change = i64::try_from(i128::from(pending).saturating_sub(i128::from(self.usage_pending)));
        if let (Some(id), Ok(change)) = (self.id(Kind::Gauge, "usage_pending", &[]), change) {
            self.meter.add(id, change);
            self.usage_pending = pending;
        }
    }

    /// The label under which `group` counts.
    fn group<'a>(&self, group: &'a str) -> &'a str {
        if self.groups.contains(group) { group } else { OTHER }
    }

    fn of_deployment(
        &mut self,
        what: &'static str,
        group: &str,
        deployment: &str,
        more: Option<(&'static str, &str)>,
        amount: u64,
    ) {
        // Both come from the configuration, not from a client.
        learn(&mut self.groups, group);
        learn(&mut self.deployments, deployment);
        let known = self.deployments.contains(deployment);
        let deployment = if known { deployment } else { OTHER };
        let labels = [("group", self.group(group)), ("deployment", deployment), more.unwrap_or_default()];
        let count = if more.is_some() { 3 } else { 2 };
        self.bump(Kind::Counter, what, labels.get(..count).unwrap_or_default(), amount);
    }

    fn bump(&mut self, kind: Kind, what: &'static str, labels: &Labels<'_>, amount: u64) {
        let Some(id) = self.id(kind, what, labels) else { return };
        match kind {
            Kind::Counter => self.meter.add(id, i64::try_from(amount).unwrap_or(i64::MAX)),
            Kind::Gauge | Kind::Histogram => self.meter.record(id, amount),
        }
    }

    fn id(&mut self, kind: Kind, what: &'static str, labels: &Labels<'_>) -> Option<u32> {
        let mut hasher = FixedState::default().build_hasher();
        what.hash(&mut hasher);
        for label in labels {
            label.hash(&mut hasher);
        }
        let hash = hasher.finish();
        if let Some(id) = self.ids.get(&hash) {
            return Some(*id);
        }
        let name = name(what, labels);
        let id = match kind {
            Kind::Counter => self.meter.counter(&name),
            Kind::Gauge => self.meter.gauge(&name),
            Kind::Histogram => self.meter.histogram(&name),
        }?;
        self.ids.insert(hash, id);
        Some(id)
    }
}

/// Envoy's name of a metric, from which the bootstrap cuts the labels again.
fn name(what: &str, labels: &Labels<'_>) -> String {
    // A dot would start another label, a colon or space would break a metrics format.
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '/' { c } else { '_' };
    let mut name = format!("attache.{what}");
    for (label, value) in labels {
        let _ = write!(name, ".{label}.");
        name.extend(value.chars().take(100).map(plain));
    }
    name
}

fn learn(labels: &mut HashSet<String, FixedState>, label: &str) {
    if labels.len() < MAX_LABELS && !label.is_empty() && !labels.contains(label) {
        labels.insert(label.to_owned());
    }
}

#[cfg(test)]
#[path = "stats_tests.rs"]
mod tests;
