//! What a request costs a deployment: its charges, their limits, and the reservation that holds them.

use std::sync::Arc;
use std::time::Duration;

use attache_llm::contract::Ask;
use attache_llm::path::Endpoint;
use attache_llm::price::Price;
use attache_llm::usage::Usage;

use super::request::Request;
use super::{Budget, Deployment, Snapshot, Strategy};
use crate::store::{Charge, Counter, Limited};

/// How long a minute counter is kept: its own minute and the one in which late answers settle.
const MINUTE_TTL: Duration = Duration::from_secs(120);
/// A place in flight outlives the lease that takes it back by this much.
const PLACE_MARGIN: Duration = Duration::from_secs(60);
/// Completion tokens assumed when the client names no limit.
const DEFAULT_COMPLETION: u64 = 256;

/// A reservation's id: it tells the windows of its counters, so that any replica can settle it from the usage record.
/// The deployment is that of the first attempt of its pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot<'a> {
    /// Unix minute of the decision.
    pub(super) minute: u64,
    pub(super) call_id: &'a str,
    pub(super) pass: u32,
    /// [`Ask::again`].
    pub(super) again: u8,
}

impl<'a> Slot<'a> {
    /// Of this question.
    pub(super) fn of(request: &Request<'a>) -> Self {
        let ask: &'a Ask = request.ask;
        Self { minute: request.minute(), call_id: &ask.call_id, pass: request.pass(), again: ask.again }
    }

    /// `{minute}/{call_id}/{pass}`, and `~{again}` where it was asked before.
    pub(super) fn id(&self) -> String {
        let id = format!("{}/{}/{}", self.minute, self.call_id, self.pass);
        if self.again == 0 { id } else { format!("{id}~{}", self.again) }
    }

    /// Reads an id back; `None` if it is not one of this call's.
    pub(super) fn parse(id: &str, call_id: &'a str) -> Option<Self> {
        let (minute, rest) = id.split_once('/')?;
        let pass = rest.strip_prefix(call_id)?.strip_prefix('/')?;
        let (pass, again) = pass.split_once('~').unwrap_or((pass, "0"));
        let (minute, pass, again) = (minute.parse().ok()?, pass.parse().ok()?, again.parse().ok()?);
        Some(Self { minute, call_id, pass, again })
    }
}

/// Tokens that a request will probably use: the prompt's estimate and every completion at its limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Estimate {
    pub(super) input: u64,
    pub(super) completion: u64,
}

impl Estimate {
    pub(super) fn of(ask: &Ask) -> Self {
        let completion = match ask.endpoint {
            // Nothing is written, or not in tokens.
            Endpoint::Embeddings | Endpoint::CountTokens | Endpoint::Rerank | Endpoint::AudioSpeech => 0,
            endpoint if endpoint.is_free() => 0,
            _ => ask.max_tokens.unwrap_or(DEFAULT_COMPLETION).saturating_mul(ask.n.unwrap_or(1)),
        };
        // A client may name any number; a counter must not overflow by it.
        let bounded = |tokens: u64| tokens.min(u64::from(u32::MAX));
        Self { input: bounded(ask.input_tokens), completion: bounded(completion) }
    }

    pub(super) fn tokens(self) -> u64 {
        self.input.saturating_add(self.completion).min(u64::from(u32::MAX))
    }

    /// Nano-dollars; an unknown price is nothing.
    pub(super) fn cost(self, price: Option<&Price>) -> u64 {
        let usage = Usage { prompt: self.input, completion: self.completion, ..Usage::default() };
        price.map_or(0, |price| price.cost(&usage))
    }
}

/// What is counted for a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Rpm,
    Tpm,
    InFlight,
    Budget,
    ProviderBudget,
}

/// What a deployment's requests are charged to, and how high each may go. The first one is what its group's strategy
/// ranks by, if it ranks by a counter.
pub(super) type Kinds = [Option<(Kind, Option<u64>)>; 5];

/// The charges of a deployment under its group's strategy (docs/routing.md, "Limits").
pub(super) fn kinds(snapshot: &Snapshot, strategy: &Strategy, deployment: &Deployment) -> Kinds {
    let enforced = enforces(snapshot, strategy);
    let limited = |kind, limit: Option<u64>| limit.map(|limit| (kind, Some(limit)));
    let rpm = limited(Kind::Rpm, deployment.rpm.filter(|_| enforced));
    let tpm = limited(Kind::Tpm, deployment.tpm.filter(|_| enforced));
    let in_flight = limited(Kind::InFlight, deployment.max_parallel);
    let budget = limited(Kind::Budget, deployment.budget.map(|budget| budget.limit));
    let provider =
        provider_budget(snapshot, deployment).map(|budget| (Kind::ProviderBudget, Some(budget.limit)));
    match strategy {
        Strategy::UsageBased => [Some((Kind::Tpm, deployment.tpm)), rpm, in_flight, budget, provider],
        Strategy::LeastBusy => [Some((Kind::InFlight, deployment.max_parallel)), rpm, tpm, budget, provider],
        _ => [rpm, tpm, in_flight, budget, provider],
    }
}

/// Must a request ask for room before it goes there? Has [`kinds`] a limit, that is.
pub(super) fn is_limited(snapshot: &Snapshot, strategy: &Strategy, deployment: &Deployment) -> bool {
    let by_minute = deployment.rpm.is_some() || deployment.tpm.is_some();
    deployment.max_parallel.is_some()
        || deployment.budget.is_some()
        || (by_minute && enforces(snapshot, strategy))
        || provider_budget(snapshot, deployment).is_some()
}

/// Are rpm and tpm limits, not weights?
pub(super) fn enforces(snapshot: &Snapshot, strategy: &Strategy) -> bool {
    snapshot.enforce_limits || !matches!(strategy, Strategy::SimpleShuffle)
}

pub(super) fn provider_budget<'a>(snapshot: &'a Snapshot, deployment: &Deployment) -> Option<&'a Budget> {
    if snapshot.provider_budgets.is_empty() {
        return None;
    }
    snapshot.provider_budgets.get(deployment.provider_name)
}

/// Makes charges of one decision or settlement.
pub(super) struct Meter<'a> {
    snapshot: &'a Snapshot,
    /// Unix minute.
    minute: u64,
    /// Counters of provider budgets, named once.
    providers: Vec<(&'a str, Arc<str>)>,
}

impl<'a> Meter<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, minute: u64) -> Self {
        let names = snapshot.provider_budgets.keys();
        let providers = names.map(|name| (name.as_str(), Arc::from(format!("provider:{name}:budget"))));
        Self { snapshot, minute, providers: providers.collect() }
    }

    /// Where something is counted now, and how long that is kept.
    pub(super) fn counter(
        &self,
        deployment: &Deployment,
        kind: Kind,
        lease: Duration,
    ) -> (Counter, Duration) {
        let names = &deployment.counters;
        let minute = |base: &Arc<str>| (Counter { base: Arc::clone(base), window: self.minute }, MINUTE_TTL);
        match kind {
            Kind::Rpm => minute(&names.rpm),
            Kind::Tpm => minute(&names.tpm),
            Kind::InFlight => {
                let counter = Counter { base: Arc::clone(&names.in_flight), window: 0 };
                (counter, lease.saturating_add(PLACE_MARGIN))
            }
            Kind::Budget => self.budget(&names.budget, deployment.budget.as_ref()),
            Kind::ProviderBudget => {
                let known = self.providers.iter().find(|(name, _)| *name == deployment.provider_name);
                let base = known.map_or_else(|| Arc::clone(&names.budget), |(_, base)| Arc::clone(base));
                self.budget(&base, provider_budget(self.snapshot, deployment))
            }
        }
    }

    /// Where the budget of a provider is counted now; `None`: it has none.
    pub(super) fn provider(&self, name: &str) -> Option<Counter> {
        let (_, base) = self.providers.iter().find(|(known, _)| *known == name)?;
        Some(self.budget(base, self.snapshot.provider_budgets.get(name)).0)
    }

    fn budget(&self, base: &Arc<str>, budget: Option<&Budget>) -> (Counter, Duration) {
        let period = budget.map_or(Duration::from_secs(60), |budget| budget.period);
        let window = self.minute.saturating_mul(60).checked_div(period.as_secs()).unwrap_or(self.minute);
        (Counter { base: Arc::clone(base), window }, period.saturating_add(MINUTE_TTL))
    }

    /// What is reserved for a request.
    pub(super) fn reserve(
        &self,
        deployment: &Deployment,
        kinds: &Kinds,
        estimate: Estimate,
        price: Option<&Price>,
        lease: Duration,
    ) -> Vec<Limited> {
        let mut charges = Vec::with_capacity(kinds.len());
        for &(kind, limit) in kinds.iter().flatten() {
            let (counter, ttl) = self.counter(deployment, kind, lease);
            let amount = match kind {
                Kind::Rpm | Kind::InFlight => 1,
                Kind::Tpm => estimate.tokens(),
                Kind::Budget | Kind::ProviderBudget => estimate.cost(price),
            };
            charges.push(Limited::new(counter, amount, ttl, limit));
        }
        charges
    }

    /// What it came to. Places in flight are given back.
    pub(super) fn actual(&self, deployment: &Deployment, kinds: &Kinds, used: Used) -> Vec<Charge> {
        let amounts = kinds.iter().flatten().filter_map(|&(kind, _)| {
            let amount = match kind {
                Kind::Rpm => used.requests,
                Kind::Tpm => used.tokens,
                Kind::Budget | Kind::ProviderBudget => used.nanos,
                Kind::InFlight => return None,
            };
            let (counter, ttl) = self.counter(deployment, kind, Duration::ZERO);
            Some(Charge { counter, amount, ttl })
        });
        amounts.collect()
    }

    /// Seconds until a limit of this kind may have room again.
    pub(super) fn wait(&self, deployment: &Deployment, kind: Kind, now_ms: u64) -> u64 {
        let period = match kind {
            Kind::InFlight => return 1,
            Kind::Rpm | Kind::Tpm => 60_000,
            Kind::Budget => period_ms(deployment.budget.as_ref()),
            Kind::ProviderBudget => period_ms(provider_budget(self.snapshot, deployment)),
        };
        let into = now_ms.checked_rem(period).unwrap_or(0);
        period.saturating_sub(into).div_ceil(1_000).max(1)
    }
}

fn period_ms(budget: Option<&Budget>) -> u64 {
    budget.map_or(60_000, |budget| u64::try_from(budget.period.as_millis()).unwrap_or(u64::MAX))
}

/// What attempts at one deployment really used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) requests: u64,
    pub(super) tokens: u64,
    /// Nano-dollars.
    pub(super) nanos: u64,
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
