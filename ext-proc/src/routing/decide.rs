use std::sync::Arc;

use async_trait::async_trait;
use attache_llm::contract::{self, Ask, MAX_PASSES};
use attache_llm::dialect::route;
use attache_llm::error::ApiError;
use attache_llm::path::Endpoint;
use rand::seq::IndexedRandom;

use super::access::Grant;
use super::admission::{Estimate, Slot};
use super::bill::{Bills, Unplaced};
use super::caller::{adapted, caller, named};
use super::choose::{Field, LEASE_MARGIN, chosen, field, fullness};
use super::decision::Use;
use super::lease::{may_lease, not_leased};
use super::legs::Line;
use super::names::{Target, find};
use super::request::Request;
use super::settle::replanned;
use super::steps::{Planned, plan};
use super::{Access, Breakers, Decision, LiveClusters, Probes, Snapshot, Speeds, Verdict, now_ms, refusal};
use crate::entity::Principal;
use crate::keys::Who;
use crate::limits::{self, Question};
use crate::store::{Counters, Reservation, StoreError, UsageSum};

/// Everyone behind a key, cached, and what the ledger says of them.
#[async_trait]
pub trait Keys: Send + Sync {
    /// Everyone behind a request with this key, `None` when nobody knows the key; an error only if the store is away and
    /// somebody is not cached.
    async fn principal(&self, id: &str, who: &Who<'_>) -> Result<Option<Principal>, StoreError>;
    /// Where counters begin that the backend does not have, in order; a stored spend is in `nanos`.
    async fn used(&self, questions: &[Question]) -> Result<Vec<UsageSum>, StoreError>;
}

/// Everything a decision is made from.
pub struct Context<'a> {
    pub snapshot: Arc<Snapshot>,
    pub keys: &'a dyn Keys,
    pub counters: &'a Arc<dyn Counters>,
    pub live: &'a dyn LiveClusters,
    pub breakers: &'a Breakers,
    pub speeds: &'a Speeds,
    pub probes: &'a Probes,
}

/// Decides about one pass of a request: may the caller use the model, is there room in every limit, and which deployments
/// are tried in which order.
///
/// Waits for nothing but the caller (cached) and one question to the counters (20 ms at most), and for the ledger where a
/// budget's counter is new. With the counters away it decides all the same, without a reservation, unless the
/// configuration says otherwise (`fail_closed_rate_limit_enforcement`).
pub async fn decide(context: &Context<'_>, ask: &Ask) -> Verdict {
    if ask.contract != contract::VERSION {
        return Err(refusal::contract_mismatch(ask.contract));
    }
    let now = now_ms();
    let principal = caller(context, ask, now).await?;
    if let Some(replan) = &ask.replan {
        replanned(&context.snapshot, context.counters, ask, replan);
        if replan.pass >= MAX_PASSES {
            return Err(ApiError::too_many_passes(&ask.model, MAX_PASSES));
        }
    }
    let ask = &*named(&context.snapshot, ask)?;
    let mut asked = adapted(ask, &principal);
    let mut used_up = Vec::new();
    loop {
        let (error, group) = match attempt(context, &asked, &principal, now, &[]).await {
            Ok(decision) => return Ok(decision),
            Err(Unplaced::Refused(error)) => return Err(error),
            Err(Unplaced::Budget(error, group)) => (error, group),
        };
        let cheaper = limits::cheaper(&principal, &asked.model, &group);
        let next = cheaper.iter().find(|model| **model != asked.model && !used_up.contains(*model));
        let Some(next) = next else { return Err(error) };
        let asked = asked.to_mut();
        used_up.push(std::mem::replace(&mut asked.model, next.clone()));
    }
}

/// `more`: calls beside the question's own, that the decision is for, too. What it must be for that [`super::lease`] knows.
pub(super) async fn attempt(
    context: &Context<'_>,
    ask: &Ask,
    principal: &Principal,
    now: u64,
    more: &[String],
) -> Result<Decision, Unplaced> {
    let request = request(context, ask, principal, now);
    let (mut line, field) = look(&request)?;
    let Field { legs, question } = field;
    if !more.is_empty() && !may_lease(&line, &legs) {
        return Err(not_leased());
    }
    let mut bills = Bills::of(&request, principal, &line, &legs);
    let question = bills.question(&request, question, &legs);
    let lease = question.as_ref().map(|(admission, _)| admission.lease);
    let ids: Vec<String> = more.iter().map(|call_id| Slot { call_id, ..Slot::of(&request) }.id()).collect();
    let mut held = Vec::new();
    let (legs, reservation) = match question {
        None => (legs, Reservation::none(String::new())),
        Some((admission, places)) => {
            let id = admission.id.clone();
            match bills.place(context, &request, admission, &ids).await {
                Ok(Some(at)) => {
                    let place = places.get(at).copied().unwrap_or_default();
                    let hold = |id| Reservation::held(Arc::clone(context.counters), id);
                    held = ids.into_iter().map(hold).collect();
                    (chosen(legs, place), hold(id))
                }
                Ok(None) if !more.is_empty() => return Err(not_leased()),
                // Nobody keeps count: whoever comes first, without a reservation.
                Ok(None) => (
                    chosen(legs, places.first().copied().unwrap_or_default()),
                    Reservation::none(String::new()),
                ),
                Err(super::bill::NoPlace::Full(full)) => {
                    let fullness = fullness(&request, &legs, &places, &full);
                    return Err(refusal::nobody(&request, &line.asked, &line.tally, Some(fullness)).into());
                }
                Err(super::bill::NoPlace::Over(error)) => return Err(error),
            }
        }
    };
    let mut planned = plan(&request, &mut line, legs, &mut rand::rng());
    if let Some(lease) = lease {
        // What is reserved must be held until the request is over.
        planned.timeouts.total = planned.timeouts.total.min(lease.saturating_sub(LEASE_MARGIN / 2));
    }
    // The counters say what is left after the last use.
    let mut headers = bills.headers_before(&request, more.len());
    let told = bills.told(&request);
    headers.push(told.headers);
    let mut headers = headers.into_iter();
    let response_headers = headers.next().unwrap_or_default();
    let mut held = held.into_iter();
    let uses = headers.map(|response_headers| {
        let reservation = held.next().unwrap_or_else(|| Reservation::none(String::new()));
        Use { reservation, response_headers }
    });
    let more = uses.collect();
    Ok(Decision {
        plan: planned.to_steps(),
        mirror: mirror(&request, &planned),
        group: line.asked.group.name.clone(),
        reservation,
        owner: told.owner,
        alerts: told.alerts,
        timeouts: planned.timeouts,
        response_headers,
        more,
        generation: request.snapshot.generation,
        walk: planned.walk,
    })
}

pub(super) fn request<'a>(
    context: &'a Context<'_>,
    ask: &'a Ask,
    principal: &'a Principal,
    now_ms: u64,
) -> Request<'a> {
    Request {
        snapshot: &context.snapshot,
        ask,
        access: Access::of_all(limits::lists(principal).into_iter().map(|list| list.models)),
        live: context.live.view(),
        circuits: context.breakers.view(),
        speeds: context.speeds,
        probes: context.probes,
        now_ms,
        estimate: Estimate::of(ask),
    }
}

/// Finds the group and whoever may serve; refuses where there is nobody.
pub(super) fn look<'r, 'a>(request: &'r Request<'a>) -> Result<(Line<'r, 'a>, Field<'a>), ApiError> {
    let mut rng = rand::rng();
    let named = resolve(request)?;
    if !named.1.is_payable(request.snapshot) {
        return Err(ApiError::model_without_pricing(&request.ask.model));
    }
    let mut line = Line::new(request, named, &mut rng);
    match field(request, &mut line, &mut rng) {
        Some(field) => Ok((line, field)),
        None => Err(refusal::nobody(request, &line.asked, &line.tally, None)),
    }
}

/// The group behind the model's name, with the name by which it was found.
///
/// Access comes before existence, so that a key cannot find out which models exist that it may not use.
pub(super) fn resolve<'a>(request: &Request<'a>) -> Result<(&'a str, Target<'a>), ApiError> {
    let (snapshot, asked) = (request.snapshot, request.ask.model.as_str());
    let denied = || ApiError::model_access_denied(asked);
    if let Some(target) = find(snapshot, asked).map(|target| of_account(request, target)) {
        return if request.access.grants(asked, &target).any() { Ok((asked, target)) } else { Err(denied()) };
    }
    if !request.access.allows(asked, None) {
        return Err(denied());
    }
    // LiteLLM: a model that nobody configured goes to the default fallbacks.
    let defaults = snapshot.fallbacks.get("*").into_iter().flatten();
    let mut usable = defaults.filter_map(|name| Some((name.as_str(), find(snapshot, name)?)));
    let usable = usable.find(|(name, target)| request.access.grants(name, target) != Grant::Nothing);
    usable.filter(|_| !request.ask.wishes.disable_fallbacks).ok_or_else(|| ApiError::model_not_found(asked))
}

/// What is stored is at one account: that of the group's first deployment that has the endpoint, whichever is idle or
/// cheap, so that a file is found where it was put.
fn of_account<'a>(request: &Request<'a>, target: Target<'a>) -> Target<'a> {
    let endpoint = request.ask.endpoint;
    if !endpoint.is_stored() || target.only.is_some() {
        return target;
    }
    let only = target.group.deployments.iter().find(|d| route(&d.meta, endpoint).is_some());
    Target { only, ..target }
}

/// Cluster of a deployment of the group that gets copies of what is sent to the first step, on the first pass.
fn mirror(request: &Request<'_>, planned: &Planned<'_>) -> Option<String> {
    let endpoint = request.ask.endpoint;
    // Copies of a session would hang, those of a file stay where nobody looks for them.
    if request.pass() > 0 || endpoint.is_stored() || endpoint == Endpoint::Realtime {
        return None;
    }
    let first = planned.attempts.first()?;
    let target = find(request.snapshot, first.deployment.mirror.as_deref()?)?;
    let live: Vec<_> = target.group.deployments.iter().filter(|d| request.live.is_live(&d.cluster)).collect();
    live.choose(&mut rand::rng()).map(|d| d.cluster.clone())
}
