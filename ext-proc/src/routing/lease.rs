//! Decisions ahead: where one worker of an Envoy sees many requests that differ in nothing that a decision depends on, a few of
//! them are decided together before they come, and need not ask and wait.
//!
//! **What holds all the same.** Each use has its own reservation, made atomically with the others and settled by its own
//! usage record; no limit is exceeded. What waits for its use takes room that others might want: so it is only made where
//! many times as much is left ([`crate::store::Counters::place_all`]), and what is not used goes back after [`LEASE_FOR`]. A plan
//! may be that old when it is used: as old as what breakers know of the last failures. What depends on the single
//! request, or on what is in flight right now, is not leased: other passes, probes, copies for a mirror, `least-busy`,
//! sessions.

use std::time::Duration;

use attache_llm::contract::{self, Ask, MAX_LEASE_CALLS};
use attache_llm::error::ApiError;
use attache_llm::path::Endpoint;

use super::bill::Unplaced;
use super::caller::{adapted, caller, named};
use super::decide::attempt;
use super::legs::{Leg, Line};
use super::{Context, Decision, Strategy, now_ms};

/// How long a decision may wait for its use.
const LEASE_FOR: Duration = Duration::from_millis(100);

/// Decides ahead for these calls, and says for how many milliseconds. `None`: they are to ask for themselves.
pub async fn lease(context: &Context<'_>, ask: &Ask, calls: &[String]) -> Option<(Decision, u64)> {
    let [first, more @ ..] = calls else { return None };
    let endpoint = ask.endpoint;
    let single =
        ask.replan.is_some() || ask.explain || endpoint == Endpoint::Realtime || endpoint.is_stored();
    let fits = ask.contract == contract::VERSION && !more.is_empty() && calls.len() <= MAX_LEASE_CALLS;
    if !context.snapshot.leases || single || !fits || context.counters.degraded() {
        return None;
    }
    let now = now_ms();
    let for_ms = (60_000 - now % 60_000).min(u64::try_from(LEASE_FOR.as_millis()).unwrap_or(0));
    let ask = Ask { call_id: first.clone(), ..ask.clone() };
    let principal = caller(context, &ask, now).await.ok()?;
    let ask = named(&context.snapshot, &ask).ok()?;
    let ask = adapted(&ask, &principal);
    let decision = attempt(context, &ask, &principal, now, more).await.ok()?;
    // Each request that passes a soft budget is told of, and each has its own chance to be copied.
    let single = !decision.alerts.is_empty() || decision.mirror.is_some();
    let probes = decision.walk.as_ref().is_some_and(|walk| walk.probe);
    // Dropped, what it reserves goes back.
    (!single && !probes).then_some((decision, for_ms))
}

/// Can a choice among these be made ahead?
pub(super) fn may_lease(line: &Line<'_, '_>, legs: &[Leg<'_>]) -> bool {
    let now_counts = |leg: &Leg<'_>| leg.target.group.strategy == Strategy::LeastBusy;
    line.asked.group.strategy != Strategy::LeastBusy && !legs.iter().any(now_counts)
}

/// Nobody sees it: who is not leased asks.
pub(super) fn not_leased() -> Unplaced {
    ApiError::internal("not leased").into()
}
