use std::sync::Arc;

use async_trait::async_trait;
use attache_llm::contract::{self, Ask, MASTER_KEY_HASH, MAX_PASSES};
use attache_llm::error::ApiError;
use rand::seq::IndexedRandom;

use super::access::Grant;
use super::admission::Estimate;
use super::choose::{Field, Fullness, LEASE_MARGIN, chosen, field, fullness};
use super::legs::Line;
use super::names::{Target, find};
use super::request::Request;
use super::settle::replanned;
use super::steps::{Planned, plan};
use super::{Access, Breakers, Decision, LiveClusters, Probes, Snapshot, Speeds, Verdict, now_ms, refusal};
use crate::store::{Admission, Admitted, Counters, KeyRow, Reservation, StoreError};

/// Stored keys by id, cached.
#[async_trait]
pub trait Keys: Send + Sync {
    /// The key's row, `None` when nobody knows it; an error only if the store is away and the key not cached.
    async fn row(&self, id: &str) -> Result<Option<Arc<KeyRow>>, StoreError>;
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

/// Decides about one pass of a request: may the key use the model, and which deployments are tried in which order.
///
/// Never waits for anything but the key (cached) and one question to the counters (20 ms at most). With the counters
/// away it decides all the same, without a reservation.
pub async fn decide(context: &Context<'_>, ask: &Ask) -> Verdict {
    if ask.contract != contract::VERSION {
        return Err(refusal::contract_mismatch(ask.contract));
    }
    let now = now_ms();
    let key = caller(context.keys, &ask.key, now).await?;
    if let Some(replan) = &ask.replan {
        replanned(&context.snapshot, context.counters, &ask.call_id, replan);
        if replan.pass >= MAX_PASSES {
            return Err(ApiError::too_many_passes(&ask.model, MAX_PASSES));
        }
    }
    let request = request(context, ask, key.as_deref(), now);
    let (mut line, field) = look(&request)?;
    let Field { legs, question } = field;
    let lease = question.as_ref().map(|(admission, _)| admission.lease);
    let (legs, reservation) = match question {
        None => (legs, Reservation::none(String::new())),
        Some((admission, places)) => {
            match admit(context.counters, &admission).await {
                Some(Admitted::Candidate(at)) => {
                    let place = places.get(at).copied().unwrap_or_default();
                    (chosen(legs, place), Reservation::held(Arc::clone(context.counters), admission.id))
                }
                Some(Admitted::Full(full)) => {
                    let fullness = fullness(&request, &legs, &places, &full);
                    return Err(refuse(&request, &line, Some(fullness)));
                }
                // Nobody keeps count: whoever comes first, without a reservation.
                Some(Admitted::Refused { .. }) | None => {
                    (chosen(legs, unasked(&places)), Reservation::none(String::new()))
                }
            }
        }
    };
    let mut planned = plan(&request, &mut line, legs, &mut rand::rng());
    if let Some(lease) = lease {
        // What is reserved must be held until the request is over.
        planned.timeouts.total = planned.timeouts.total.min(lease.saturating_sub(LEASE_MARGIN / 2));
    }
    Ok(Decision {
        plan: planned.to_steps(),
        mirror: mirror(&request, &planned),
        group: line.asked.group.name.clone(),
        reservation,
        timeouts: planned.timeouts,
        response_headers: key.as_deref().map(key_headers).unwrap_or_default(),
        valid_for: planned.timeouts.total,
        uses: 1,
        generation: request.snapshot.generation,
        walk: planned.walk,
    })
}

pub(super) fn request<'a>(
    context: &'a Context<'_>,
    ask: &'a Ask,
    key: Option<&'a KeyRow>,
    now_ms: u64,
) -> Request<'a> {
    Request {
        snapshot: &context.snapshot,
        ask,
        access: key.map_or_else(Access::everything, |row| Access::of(&row.key.models)),
        live: context.live,
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
    let mut line = Line::new(request, named, &mut rng);
    match field(request, &mut line, &mut rng) {
        Some(field) => Ok((line, field)),
        None => Err(refuse(request, &line, None)),
    }
}

/// The group behind the model's name, with the name by which it was found.
///
/// Access comes before existence, so that a key cannot find out which models exist that it may not use.
pub(super) fn resolve<'a>(request: &Request<'a>) -> Result<(&'a str, Target<'a>), ApiError> {
    let (snapshot, asked) = (request.snapshot, request.ask.model.as_str());
    let denied = || ApiError::model_access_denied(asked);
    if let Some(target) = find(snapshot, asked) {
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

/// The caller's row; `None` for the master key, which may do everything.
pub(super) async fn caller(keys: &dyn Keys, id: &str, now_ms: u64) -> Result<Option<Arc<KeyRow>>, ApiError> {
    if id == MASTER_KEY_HASH {
        return Ok(None);
    }
    let row = keys.row(id).await.map_err(|error| refusal::keys_away(&error))?;
    let row = row.ok_or_else(ApiError::unknown_key)?;
    if row.blocked {
        return Err(ApiError::blocked_key());
    }
    if row.key.expires_ms.is_some_and(|expires| expires <= now_ms) {
        return Err(ApiError::expired_key(&row.key.name));
    }
    Ok(Some(row))
}

async fn admit(counters: &Arc<dyn Counters>, admission: &Admission) -> Option<Admitted> {
    match counters.admit(admission).await {
        Ok(admitted) => Some(admitted),
        Err(error) => {
            // The counters themselves log once per outage; a line per request would drown it.
            tracing::debug!(reservation = admission.id, %error, "no reservation");
            None
        }
    }
}

fn unasked(places: &[(usize, usize)]) -> (usize, usize) {
    places.first().copied().unwrap_or_default()
}

pub(super) fn refuse(request: &Request<'_>, line: &Line<'_, '_>, full: Option<Fullness>) -> ApiError {
    refusal::nobody(request, &line.asked, &line.tally, full)
}

/// Cluster of a deployment of the group that gets copies of what is sent to the first step, on the first pass.
fn mirror(request: &Request<'_>, planned: &Planned<'_>) -> Option<String> {
    let first = planned.attempts.first().filter(|_| request.pass() == 0)?;
    let target = find(request.snapshot, first.deployment.mirror.as_deref()?)?;
    let live: Vec<_> = target.group.deployments.iter().filter(|d| request.live.is_live(&d.cluster)).collect();
    live.choose(&mut rand::rng()).map(|d| d.cluster.clone())
}

/// LiteLLM's headers about the key, where it has a limit.
fn key_headers(row: &KeyRow) -> Vec<(String, String)> {
    let limits =
        [("x-litellm-key-rpm-limit", row.key.rpm_limit), ("x-litellm-key-tpm-limit", row.key.tpm_limit)];
    limits.into_iter().filter_map(|(name, limit)| Some((name.to_owned(), limit?.to_string()))).collect()
}
