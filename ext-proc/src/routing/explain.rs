//! The decision, told instead of done: who could have served the request, who not and why, and the plan.

use attache_llm::contract::{After, Ask, Step};
use attache_llm::error::ApiError;
use serde::Serialize;

use super::admission::{Kind, Meter, enforces, provider_budget};
use super::bill::Bills;
use super::caller::{adapted, caller, named};
use super::candidates::{Excluded, Filter};
use super::chain::{Way, chain};
use super::choose::{Field, chosen, fullness};
use super::decide::{look, request, resolve};
use super::explain_limits::{self, ExplainedLimit};
use super::names::Target;
use super::refusal::nobody;
use super::request::Request;
use super::steps::plan;
use super::{Breaker, Context, Deployment, Health, Strategy, now_ms};
use crate::entity::Principal;
use crate::limits;
use crate::store::{Admission, Admitted, Candidate, Counter, Counters, Limited, Pick, Speed};

/// Deployments of one group that are told of, at most.
const MAX_SHOWN: usize = 500;

/// Why a request would go where. Serialises to JSON; `Display` is a table for the command line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// Model as asked.
    pub model: String,
    /// Group behind it.
    pub group: String,
    /// Generation of the configuration that decides.
    pub generation: u64,
    /// Strategy of the group.
    pub strategy: &'static str,
    /// Estimated tokens of the request, prompt and completion.
    pub estimated_tokens: u64,
    /// Do the counters answer? Without them usage is unknown and nothing is full.
    pub counters: bool,
    /// Limits and budgets of the caller that hold for the request, in the order in which they are asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<ExplainedLimit>,
    /// The group and its fallbacks, in order.
    pub groups: Vec<ExplainedGroup>,
    /// The plan that would result; empty when the request would be refused.
    pub plan: Vec<ExplainedStep>,
    /// What the client would get instead of a plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

/// One group of the chain.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExplainedGroup {
    pub group: String,
    pub strategy: &'static str,
    pub deployments: Vec<ExplainedDeployment>,
    /// Deployments beyond those shown.
    #[serde(skip_serializing_if = "is_zero")]
    pub not_shown: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// One deployment as the decision sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExplainedDeployment {
    pub deployment: String,
    pub provider: &'static str,
    /// Model at the provider.
    pub model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u64>,
    /// Place in this decision's order of preference, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
    /// Why it may not serve the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excluded: Option<String>,
    pub usage: Vec<Gauge>,
    pub breaker: ExplainedBreaker,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<Health>,
    /// Mean time to the first event (streams) or per completion token, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<u64>,
}

/// A counter and its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Gauge {
    /// `rpm`, `tpm`, `in_flight`, `budget_nanos`, `provider_budget_nanos`.
    pub what: &'static str,
    /// `None` while the counters are away.
    pub used: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Does the limit hold, or is it a weight only?
    pub enforced: bool,
}

/// State of a circuit breaker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedBreaker {
    /// `closed`, `open` or `half_open`.
    pub state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One step of the plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExplainedStep {
    /// Empty for the step that asks for another plan.
    pub deployment: String,
    pub group: String,
    pub cluster: String,
    /// Provider's model name, where the deployment's own is a pattern.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Classes of error with a rule of their own, and where they go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<(&'static str, After)>,
}

/// An answer without a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    pub status: u16,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
}

/// Decides without charging anything, and tells how.
///
/// # Errors
/// What `decide` refuses before it looks at deployments: unknown keys and models.
pub async fn explain(context: &Context<'_>, ask: &Ask) -> Result<Explanation, ApiError> {
    let now = now_ms();
    let principal = caller(context, ask, now).await?;
    let ask = &*named(&context.snapshot, ask)?;
    let mut asked = adapted(ask, &principal);
    let mut used_up = Vec::new();
    loop {
        let (mut told, over_budget) = explained(context, &asked, &principal, now).await?;
        let cheaper = match over_budget {
            true => limits::cheaper(&principal, &asked.model, &told.group),
            false => &[],
        };
        let next = cheaper.iter().find(|model| **model != asked.model && !used_up.contains(*model));
        let Some(next) = next else {
            told.model.clone_from(&ask.model);
            return Ok(told);
        };
        let asked = asked.to_mut();
        used_up.push(std::mem::replace(&mut asked.model, next.clone()));
    }
}

/// Without a cheaper model. Is a budget used up?
async fn explained(
    context: &Context<'_>,
    ask: &Ask,
    principal: &Principal,
    now: u64,
) -> Result<(Explanation, bool), ApiError> {
    let request = request(context, ask, principal, now);
    let (name, asked) = resolve(&request)?;
    let meter = Meter::new(request.snapshot, request.minute());
    let mut targets = vec![(name, asked)];
    let ways = [Way::General, Way::ContextWindow, Way::ContentPolicy];
    for target in ways.into_iter().flat_map(|way| chain(&request, way, &[asked], [])) {
        if targets.iter().all(|(_, known)| known.identity() != target.identity()) {
            targets.push((target.name, target));
        }
    }
    let mut groups: Vec<_> =
        targets.iter().map(|(name, target)| group(&request, &meter, *target, name)).collect();
    let counters_answer = fill_usage(&**context.counters, &mut groups).await;
    let mut out = Explanation {
        model: ask.model.clone(),
        group: asked.group.name.clone(),
        generation: request.snapshot.generation,
        strategy: asked.group.strategy.name(),
        estimated_tokens: request.estimate.tokens(),
        counters: counters_answer,
        limits: Vec::new(),
        groups: groups.into_iter().map(|(group, _)| group).collect(),
        plan: Vec::new(),
        refusal: None,
    };
    let over_budget = outcome(context, &request, principal, &mut out).await;
    Ok((out, over_budget))
}

/// The plan or the refusal, with what the counters would have admitted. Is a budget of the caller used up?
async fn outcome(
    context: &Context<'_>,
    request: &Request<'_>,
    principal: &Principal,
    out: &mut Explanation,
) -> bool {
    let (mut line, Field { legs, question }) = match look(request) {
        Ok(found) => found,
        Err(error) => {
            out.refusal = Some(refusal(&error));
            return false;
        }
    };
    if let Bills::First { mut bill, .. } = Bills::of(request, principal, &line, &legs) {
        let over_budget = explain_limits::fill(context, request, &mut bill, out).await;
        if out.refusal.is_some() {
            return over_budget;
        }
    }
    let mut ranked: Vec<&str> = Vec::new();
    let legs = match &question {
        None => {
            ranked.extend(legs[0].members.iter().map(|member| member.deployment.meta.id.as_str()));
            legs
        }
        Some((admission, places)) => {
            let (admitted, order) = simulate(&**context.counters, admission).await;
            let member = |at: &usize| {
                let (leg, place) = places.get(*at).copied()?;
                legs.get(leg)?.members.get(place).map(|member| member.deployment.meta.id.as_str())
            };
            ranked.extend(order.iter().filter_map(member));
            match admitted {
                Admitted::Candidate(at) => chosen(legs, places.get(at).copied().unwrap_or_default()),
                Admitted::Full(full) => {
                    let fullness = fullness(request, &legs, places, &full);
                    out.refusal = Some(refusal(&nobody(request, &line.asked, &line.tally, Some(fullness))));
                    return false;
                }
                Admitted::Refused { .. } | Admitted::Unseeded(_) => legs,
            }
        }
    };
    for deployment in out.groups.iter_mut().flat_map(|group| &mut group.deployments) {
        deployment.rank = ranked.iter().position(|id| *id == deployment.deployment).map(|at| at + 1);
    }
    let planned = plan(request, &mut line, legs, &mut rand::rng());
    let steps = planned.walk.as_ref().map_or(&[][..], |walk| &walk.steps);
    let told = planned.to_steps().into_iter().enumerate().map(|(index, step)| {
        let walked: Option<&Step> = steps.get(index);
        let after =
            walked.map(|step| step.after.iter().map(|(class, after)| (class.name(), *after)).collect());
        ExplainedStep {
            deployment: step.deployment,
            group: step.group,
            cluster: step.cluster,
            model: walked.and_then(|step| step.model.clone()),
            after: after.unwrap_or_default(),
        }
    });
    out.plan = told.collect();
    false
}

/// What `admit` would answer, from the values of its counters, and the candidates with room in order of preference.
async fn simulate(counters: &dyn Counters, admission: &Admission) -> (Admitted, Vec<usize>) {
    let names: Vec<Counter> =
        admission.candidates.iter().flat_map(|c| &c.charges).map(|charge| charge.counter.clone()).collect();
    let mut values = counters.values(&names).await.unwrap_or_default().into_iter();
    let mut ranks: Vec<(u32, u64, usize)> = Vec::new();
    let mut full = Vec::with_capacity(admission.candidates.len());
    for (index, candidate) in admission.candidates.iter().enumerate() {
        let used: Vec<u64> = candidate.charges.iter().map(|_| values.next().unwrap_or(0)).collect();
        let lacks = lacking(candidate, &used);
        if lacks.is_none() {
            let rank = match admission.pick {
                Pick::First => 0,
                Pick::Lowest(at) => used.get(at).copied().unwrap_or(0),
            };
            ranks.push((candidate.tier, rank, index));
        }
        full.push(lacks);
    }
    ranks.sort_unstable();
    let admitted = ranks.first().map_or(Admitted::Full(full), |&(_, _, index)| Admitted::Candidate(index));
    (admitted, ranks.into_iter().map(|(_, _, index)| index).collect())
}

/// The first charge without room. Whether somebody else probes a half-open deployment is not asked.
fn lacking(candidate: &Candidate, used: &[u64]) -> Option<usize> {
    let full = |(charge, used): (&Limited, &u64)| {
        charge.limit.is_some_and(|limit| used.saturating_add(charge.amount.min(limit)) > limit)
    };
    candidate.charges.iter().zip(used).position(full)
}

type Named = Vec<(usize, usize, Counter)>;

fn group<'a>(
    request: &Request<'a>,
    meter: &Meter<'_>,
    target: Target<'a>,
    name: &str,
) -> (ExplainedGroup, Named) {
    let filter = Filter::new(request, target, name);
    let mut counters: Named = Vec::new();
    let shown = target.group.deployments.iter().take(MAX_SHOWN).enumerate();
    let deployments = shown.map(|(index, deployment)| {
        let excluded = filter.check(deployment).err().map(|excluded| reason(request, deployment, excluded));
        let mut usage = Vec::new();
        for (kind, limit, enforced) in gauges(request, &target.group.strategy, deployment) {
            let lease = std::time::Duration::ZERO;
            counters.push((index, usage.len(), meter.counter(deployment, kind, lease).0));
            usage.push(Gauge { what: what(kind), used: None, limit, enforced });
        }
        let speed = if request.ask.stream { Speed::FirstEvent } else { Speed::PerToken };
        ExplainedDeployment {
            deployment: deployment.meta.id.clone(),
            provider: deployment.provider_name,
            model: target.model(deployment).unwrap_or_else(|| deployment.meta.model.clone()),
            order: deployment.order,
            weight: deployment.weight,
            rank: None,
            excluded,
            usage,
            breaker: breaker(request, &deployment.meta.id),
            probe: request.probes.get(&deployment.meta.id),
            latency_us: request.speeds.of(&deployment.meta.id, speed),
        }
    });
    let deployments: Vec<_> = deployments.collect();
    let not_shown = target.group.deployments.len() - deployments.len();
    let strategy = target.group.strategy.name();
    (ExplainedGroup { group: target.group.name.clone(), strategy, deployments, not_shown }, counters)
}

/// What is counted or limited of a deployment, whichever strategy its group has.
fn gauges(
    request: &Request<'_>,
    strategy: &Strategy,
    deployment: &Deployment,
) -> Vec<(Kind, Option<u64>, bool)> {
    let enforced = enforces(request.snapshot, strategy);
    let mut out = vec![
        (Kind::Rpm, deployment.rpm, enforced && deployment.rpm.is_some()),
        (Kind::Tpm, deployment.tpm, enforced && deployment.tpm.is_some()),
        (Kind::InFlight, deployment.max_parallel, deployment.max_parallel.is_some()),
    ];
    out.extend(deployment.budget.map(|budget| (Kind::Budget, Some(budget.limit), true)));
    let provider = provider_budget(request.snapshot, deployment);
    out.extend(provider.map(|budget| (Kind::ProviderBudget, Some(budget.limit), true)));
    out
}

fn what(kind: Kind) -> &'static str {
    match kind {
        Kind::Rpm => "rpm",
        Kind::Tpm => "tpm",
        Kind::InFlight => "in_flight",
        Kind::Budget => "budget_nanos",
        Kind::ProviderBudget => "provider_budget_nanos",
    }
}

/// One read for all groups.
async fn fill_usage(counters: &dyn Counters, groups: &mut [(ExplainedGroup, Named)]) -> bool {
    let names: Vec<Counter> =
        groups.iter().flat_map(|(_, named)| named).map(|(_, _, counter)| counter.clone()).collect();
    let Ok(values) = counters.values(&names).await else { return false };
    let mut values = values.into_iter();
    for (group, named) in groups {
        for (deployment, gauge, _) in named {
            let place = group.deployments.get_mut(*deployment).and_then(|d| d.usage.get_mut(*gauge));
            let value = values.next();
            if let Some(place) = place {
                place.used = value;
            }
        }
    }
    true
}

fn breaker(request: &Request<'_>, deployment: &str) -> ExplainedBreaker {
    let reason = request.circuits.get(deployment).map(|circuit| circuit.reason.clone());
    match request.breaker(deployment) {
        Breaker::Closed => ExplainedBreaker { state: "closed", seconds_left: None, reason: None },
        Breaker::HalfOpen => ExplainedBreaker { state: "half_open", seconds_left: None, reason },
        Breaker::Open { until_ms } => {
            let left = until_ms.saturating_sub(request.now_ms).div_ceil(1_000);
            ExplainedBreaker { state: "open", seconds_left: Some(left), reason }
        }
    }
}

fn reason(request: &Request<'_>, deployment: &Deployment, excluded: Excluded) -> String {
    match excluded {
        Excluded::OtherId => "another deployment was asked for by its id".to_owned(),
        Excluded::Access => "in none of the key's access groups".to_owned(),
        Excluded::Tags => "tags do not match".to_owned(),
        Excluded::Region => "not in the region asked for".to_owned(),
        Excluded::Lacks(need) => match request.ask.needs.get(need) {
            Some(need) => format!("its provider does not support {need}"),
            None => "its provider does not have this endpoint".to_owned(),
        },
        Excluded::NoCredential => {
            let why = request.live.lacks(&deployment.cluster).unwrap_or_default();
            format!("its credential could not be had: {why}")
        }
        Excluded::NotLive => "Envoy has not acknowledged its cluster".to_owned(),
        Excluded::Open(until) => {
            format!("cooling down for {} s", until.saturating_sub(request.now_ms).div_ceil(1_000))
        }
        Excluded::Unpriced => "no price is known for it".to_owned(),
        Excluded::Ill => "its last health probe failed".to_owned(),
        Excluded::TooLong(limit) => format!("prompt of {} tokens exceeds {limit}", request.estimate.input),
    }
}

pub(super) fn refusal(error: &ApiError) -> Refusal {
    Refusal { status: error.status, message: error.message.clone(), retry_after_s: error.retry_after_s }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
