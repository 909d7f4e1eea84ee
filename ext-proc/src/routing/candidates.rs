//! Which deployments of a group may serve a request at all, and why the others may not.

use std::sync::Arc;

use attache_llm::dialect::{route, support};

use super::access::Grant;
use super::names::Target;
use super::request::Request;
use super::{Breaker, Deployment};

/// Tag of the deployments that serve requests without tags, and those whose tags nobody has.
const DEFAULT_TAG: &str = "default";

/// Why a deployment may not serve a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excluded {
    /// Another deployment was asked for by its id.
    OtherId,
    /// In none of the key's access groups.
    Access,
    Tags,
    Region,
    /// It cannot take the request: index of what it lacks in [`attache_llm::contract::Ask::needs`].
    Lacks(usize),
    /// Envoy has not acknowledged its cluster.
    NotLive,
    /// Its credential could not be had.
    NoCredential,
    /// Unix milliseconds until which its circuit breaker is open.
    Open(u64),
    /// Its last background probe failed.
    Ill,
    /// Nobody knows what it costs, and that is not allowed.
    Unpriced,
    /// The prompt's estimate exceeds this, tokens.
    TooLong(u64),
}

/// A deployment that may serve the request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member<'a> {
    pub(super) deployment: &'a Arc<Deployment>,
    /// Its breaker is half-open: one request at a time.
    pub(super) half_open: bool,
    /// When it last failed in this request, counted in attempts from 1; 0 if it did not. The longer ago, the sooner it
    /// is tried again, and all that did not fail come before.
    pub(super) failed: usize,
}

impl Member<'_> {
    /// Lower tiers are tried first; without an order last.
    pub(super) fn tier(&self) -> u32 {
        self.deployment.order.unwrap_or(u32::MAX)
    }
}

/// The rules of one group for one request.
pub(super) struct Filter<'r, 'a> {
    request: &'r Request<'a>,
    target: Target<'a>,
    tags: Tags,
    by_access_group: bool,
    asked: &'r str,
    all_live: bool,
}

/// Who serves the request's tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tags {
    Everyone,
    Matching,
    Default,
    Untagged,
}

impl<'r, 'a> Filter<'r, 'a> {
    /// `asked`: the name by which the target was found.
    pub(super) fn new(request: &'r Request<'a>, target: Target<'a>, asked: &'r str) -> Self {
        let by_access_group = request.access.grants(asked, &target) == Grant::AccessGroups;
        let all_live = request.live.all_live(request.snapshot.generation);
        Self { request, target, tags: tags(request, &target), by_access_group, asked, all_live }
    }

    /// The deployment as a candidate, or the first rule that it breaks. Length comes last: who is only too small would
    /// have served a shorter prompt.
    pub(super) fn check(&self, deployment: &'a Arc<Deployment>) -> Result<Member<'a>, Excluded> {
        let request = self.request;
        if self.target.only.is_some_and(|only| only.meta.id != deployment.meta.id) {
            return Err(Excluded::OtherId);
        }
        if self.by_access_group && !request.access.permits(self.asked, &self.target, deployment) {
            return Err(Excluded::Access);
        }
        if !self.serves_tags(deployment) {
            return Err(Excluded::Tags);
        }
        let region = request.ask.wishes.region.as_deref();
        if region.is_some_and(|region| deployment.region.as_deref() != Some(region)) {
            return Err(Excluded::Region);
        }
        if let Some(need) = self.missing(deployment) {
            return Err(Excluded::Lacks(need));
        }
        if !self.all_live && !request.live.is_live(&deployment.cluster) {
            let lacks = request.live.lacks(&deployment.cluster).is_some();
            return Err(if lacks { Excluded::NoCredential } else { Excluded::NotLive });
        }
        let half_open = match request.breaker(&deployment.meta.id) {
            Breaker::Open { until_ms } => return Err(Excluded::Open(until_ms)),
            breaker => breaker == Breaker::HalfOpen,
        };
        if request.snapshot.pre_call_health_checks && request.probes.is_ill(&deployment.meta.id) {
            return Err(Excluded::Ill);
        }
        if request.snapshot.block_unpriced && !self.target.is_priced(request.snapshot, deployment) {
            return Err(Excluded::Unpriced);
        }
        if let Some(limit) = self.max_input(deployment).filter(|&limit| request.estimate.input > limit) {
            return Err(Excluded::TooLong(limit));
        }
        let failed = request.tried().iter().rposition(|tried| tried.deployment == deployment.meta.id);
        let failed = failed.map_or(0, |at| at + 1);
        Ok(Member { deployment, half_open, failed })
    }

    /// The first need of the request that the deployment does not meet.
    fn missing(&self, deployment: &Deployment) -> Option<usize> {
        let ask = self.request.ask;
        if route(&deployment.meta, ask.endpoint).is_none() {
            return Some(usize::MAX);
        }
        let need = support::missing(&deployment.meta, ask.endpoint, &ask.needs)?;
        ask.needs.iter().position(|name| name == need)
    }

    fn max_input(&self, deployment: &Deployment) -> Option<u64> {
        if !self.request.snapshot.pre_call_checks {
            return None;
        }
        let model = self.target.model(deployment);
        self.request.snapshot.max_input_tokens(deployment, model.as_deref())
    }

    fn serves_tags(&self, deployment: &Deployment) -> bool {
        match self.tags {
            Tags::Everyone => true,
            Tags::Matching => matches(self.request, deployment),
            Tags::Default => is_default(deployment),
            Tags::Untagged => deployment.tags.is_empty(),
        }
    }
}

/// Tags choose among what is configured, not among what happens to be healthy: a request with tags does not end on a
/// default deployment because its own are down.
fn tags(request: &Request<'_>, target: &Target<'_>) -> Tags {
    if !request.snapshot.tags.enabled {
        return Tags::Everyone;
    }
    let any = |has: &dyn Fn(&Deployment) -> bool| target.group.deployments.iter().any(|d| has(d));
    if !request.ask.wishes.tags.is_empty() {
        return if any(&|d| matches(request, d)) { Tags::Matching } else { Tags::Default };
    }
    if any(&is_default) { Tags::Default } else { Tags::Untagged }
}

fn matches(request: &Request<'_>, deployment: &Deployment) -> bool {
    let wanted = &request.ask.wishes.tags;
    match request.snapshot.tags.match_all {
        true => wanted.iter().all(|tag| deployment.tags.contains(tag)),
        false => wanted.iter().any(|tag| deployment.tags.contains(tag)),
    }
}

fn is_default(deployment: &Deployment) -> bool {
    deployment.tags.iter().any(|tag| tag == DEFAULT_TAG)
}

/// Who was left out, as far as a refusal speaks of it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    /// When the first open breaker lets a request through, Unix milliseconds.
    pub(super) back_ms: Option<u64>,
    /// Largest context window among those that were too small, tokens.
    pub(super) too_small: Option<u64>,
    pub(super) tags: bool,
    pub(super) region: bool,
    /// A need that was not met, as of [`Excluded::Lacks`].
    pub(super) lacks: Option<usize>,
    pub(super) no_credential: bool,
}

impl Tally {
    pub(super) fn note(&mut self, excluded: Excluded) {
        match excluded {
            Excluded::Open(until) => {
                self.back_ms = Some(self.back_ms.map_or(until, |first| first.min(until)))
            }
            Excluded::TooLong(limit) => self.too_small = self.too_small.max(Some(limit)),
            Excluded::Tags => self.tags = true,
            Excluded::Region => self.region = true,
            Excluded::Lacks(need) => self.lacks = self.lacks.or(Some(need)),
            Excluded::NoCredential => self.no_credential = true,
            Excluded::OtherId | Excluded::Access | Excluded::NotLive | Excluded::Ill | Excluded::Unpriced => {
            }
        }
    }

    /// Nobody was left out for a reason that passes, and some for the prompt's length.
    pub(super) fn is_size(&self) -> bool {
        self.too_small.is_some() && self.back_ms.is_none()
    }
}
