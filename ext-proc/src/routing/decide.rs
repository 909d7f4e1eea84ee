use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use attache_llm::contract::{self, Ask, MASTER_KEY_HASH};
use attache_llm::error::ApiError;

use super::admission::{Estimate, Meter, Slot, Used, kinds};
use super::plan::{Health, Planned, plan};
use super::{
    Access, Breakers, Decision, Deployment, LiveClusters, Probes, Snapshot, Speeds, Strategy, Timeouts,
    Verdict, now_ms, refusal,
};
use crate::store::{Counters, KeyRow, Reservation, StoreError};

/// A reservation outlives its request by this much, so that the usage record always finds it.
const LEASE_MARGIN: Duration = Duration::from_secs(30);
/// Longest request that a plan may make of its attempts' timeouts.
const MAX_TOTAL: Duration = Duration::from_secs(2 * 3_600);

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

/// Decides about one request: may the key use the model, and which deployments are tried in which order.
///
/// Never waits for anything but the key (cached) and the reservation (20 ms at most). With the counters away it
/// decides all the same, without a reservation.
pub async fn decide(context: &Context<'_>, ask: &Ask) -> Verdict {
    if ask.contract != contract::VERSION {
        return Err(refusal::contract_mismatch(ask.contract));
    }
    let now = now_ms();
    let key = caller(context.keys, &ask.key, now).await?;
    let access = key.as_deref().map_or_else(Access::everything, |row| Access::of(&row.key.models));
    let snapshot = &context.snapshot;
    let health = Health { live: context.live, breakers: context.breakers, now_ms: now };
    let planned = plan(snapshot, &access, &health, &ask.model, &mut rand::rng())?;
    let timeouts = timeouts(snapshot, &planned, ask.stream);
    let reservation = reserve(snapshot, context.counters, &planned, ask, timeouts.total + LEASE_MARGIN).await;
    Ok(Decision {
        plan: planned.to_steps(),
        walk: None,
        mirror: None,
        reservation,
        timeouts,
        response_headers: key.as_deref().map(key_headers).unwrap_or_default(),
        valid_for: timeouts.total,
        uses: 1,
        generation: snapshot.generation,
        group: planned.group,
    })
}

/// The caller's row; `None` for the master key, which may do everything.
async fn caller(keys: &dyn Keys, id: &str, now_ms: u64) -> Result<Option<Arc<KeyRow>>, ApiError> {
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

/// One request and the estimated tokens on the first deployment's minute. The reservation has an empty id when
/// the counters are away.
async fn reserve(
    snapshot: &Snapshot,
    counters: &Arc<dyn Counters>,
    planned: &Planned,
    ask: &Ask,
    lease: Duration,
) -> Reservation {
    let Some(first) = planned.steps.first() else { return Reservation::none(String::new()) };
    let minute = now_ms() / 60_000;
    let slot = Slot { minute, call_id: &ask.call_id, pass: 0, deployment: &first.meta.id };
    let strategy = snapshot.groups.get(&first.meta.group).map_or(&Strategy::SimpleShuffle, |g| &g.strategy);
    let used = Used { requests: 1, tokens: Estimate::of(ask).tokens(), nanos: 0 };
    let charges = Meter::new(snapshot, minute).actual(first, &kinds(snapshot, strategy, first), used);
    match Reservation::take(Arc::clone(counters), slot.id(), charges, lease).await {
        Ok(reservation) => reservation,
        Err(error) => {
            // The counters themselves log once per outage; a line per request would drown it.
            tracing::debug!(call_id = ask.call_id, %error, "no reservation");
            Reservation::none(String::new())
        }
    }
}

/// Envoy reads both limits once per request, so that the first deployment's limit of one attempt holds for all;
/// the whole request may take as long as every earlier attempt timing out and the last one running to its end.
fn timeouts(snapshot: &Snapshot, planned: &Planned, stream: bool) -> Timeouts {
    let whole = |d: &Deployment| d.timeout.unwrap_or(snapshot.timeout);
    let first_event =
        |d: &Deployment| d.stream_timeout.or(snapshot.stream_timeout).unwrap_or_else(|| whole(d));
    let per_try = match planned.steps.first() {
        Some(first) if stream => first_event(first),
        Some(first) => whole(first),
        None => snapshot.timeout,
    };
    let earlier = u32::try_from(planned.steps.len().saturating_sub(1)).unwrap_or(u32::MAX);
    let longest = planned.steps.iter().map(|d| whole(d)).max().unwrap_or(snapshot.timeout).max(per_try);
    let total = per_try.saturating_mul(earlier).saturating_add(longest);
    // Zero means "no limit" both here and to Envoy.
    let per_try = Some(per_try).filter(|limit| !limit.is_zero());
    Timeouts { total: total.min(MAX_TOTAL.max(longest)), per_try }
}

/// LiteLLM's headers about the key, where it has a limit.
fn key_headers(row: &KeyRow) -> Vec<(String, String)> {
    let limits =
        [("x-litellm-key-rpm-limit", row.key.rpm_limit), ("x-litellm-key-tpm-limit", row.key.tpm_limit)];
    limits.into_iter().filter_map(|(name, limit)| Some((name.to_owned(), limit?.to_string()))).collect()
}
