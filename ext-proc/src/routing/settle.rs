use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use attache_llm::contract::{AttemptOutcome, AttemptRecord, UsageRecord};
use attache_llm::usage::Usage;

use super::reserve::Slot;
use super::{Cooldowns, Snapshot};
use crate::store::{Cooldown, Counters, StoreError};

/// Longest cooldown that an upstream's `retry-after` may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3_600);
/// Charges of deployments that had no reservation are settled at once; the lease only covers a crash between.
const DIRECT_LEASE: Duration = Duration::from_secs(10);

/// What settling a record found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// True tokens are on the counters, failures are counted.
    Done,
    /// The reservation was settled before (or its lease is over): nothing was counted again.
    Before,
    /// The counters are away; the lease ends the reservation.
    Away,
}

/// Settles a request: true tokens on the minute counters of the deployments that were tried, failures of attempts
/// towards their cooldowns. Settling a record twice is settling it once.
pub async fn settle(
    snapshot: &Snapshot,
    counters: &Arc<dyn Counters>,
    cooldowns: &Cooldowns,
    record: &UsageRecord,
) -> Settled {
    let slot = record.reservation.as_deref().and_then(|id| Slot::parse(id, &record.call_id));
    if let Some(slot) = &slot {
        match charge(&**counters, slot, record).await {
            Ok(true) => {}
            Ok(false) => return Settled::Before,
            Err(error) => {
                tracing::debug!(call_id = record.call_id, %error, "reservation not settled; its lease will end it");
                count_failures(snapshot, counters, cooldowns, record).await;
                return Settled::Away;
            }
        }
    }
    count_failures(snapshot, counters, cooldowns, record).await;
    Settled::Done
}

async fn count_failures(
    snapshot: &Snapshot,
    counters: &Arc<dyn Counters>,
    cooldowns: &Cooldowns,
    record: &UsageRecord,
) {
    for failure in failures(snapshot, record) {
        if let Err(error) = cooldowns.failed(&**counters, &failure).await {
            tracing::debug!(deployment = failure.deployment, %error, "failure not counted");
        }
    }
}

/// Replaces the reservation by what the reserved deployment got, and adds what the others got.
async fn charge(counters: &dyn Counters, slot: &Slot<'_>, record: &UsageRecord) -> Result<bool, StoreError> {
    let mut used = used(record);
    let (requests, tokens) = used.remove(slot.deployment).unwrap_or_default();
    if !counters.settle(&slot.id(), &slot.charges(requests, tokens)).await? {
        return Ok(false);
    }
    for (deployment, (requests, tokens)) in used {
        let other = Slot { deployment, ..slot.clone() };
        let charges = other.charges(requests, tokens);
        counters.reserve(&other.id(), &charges, DIRECT_LEASE).await?;
        counters.settle(&other.id(), &charges).await?;
    }
    Ok(true)
}

/// Requests and tokens per deployment.
fn used(record: &UsageRecord) -> BTreeMap<&str, (u64, u64)> {
    let mut used: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for attempt in &record.attempts {
        let entry = used.entry(attempt.deployment.as_str()).or_default();
        entry.0 += 1;
        entry.1 = entry.1.saturating_add(attempt.usage.as_ref().map_or(0, tokens));
    }
    used
}

fn tokens(usage: &Usage) -> u64 {
    match usage.total {
        0 => usage.prompt.saturating_add(usage.completion),
        total => total,
    }
}

/// The failures of a request that count towards cooldowns, as `docs/routing.md` ("Cooldowns") says.
pub(super) fn failures(snapshot: &Snapshot, record: &UsageRecord) -> Vec<Cooldown> {
    if snapshot.disable_cooldowns {
        return Vec::new();
    }
    let last = record.attempts.len().saturating_sub(1);
    let failed = |(index, attempt): (usize, &AttemptRecord)| {
        let hung_up = record.aborted && index == last;
        counts(attempt, hung_up).then(|| rule(snapshot, attempt)).flatten()
    };
    record.attempts.iter().enumerate().filter_map(failed).collect()
}

/// Is it the deployment's fault? `hung_up`: the client left during this attempt.
fn counts(attempt: &AttemptRecord, hung_up: bool) -> bool {
    match attempt.outcome {
        // Refused, reset or timed out. Of an attempt that the client left nobody knows how it would have ended.
        AttemptOutcome::NoAnswer => !hung_up,
        AttemptOutcome::ErrorStatus => matches!(attempt.status, 401 | 404 | 408 | 429 | 500..=599),
        AttemptOutcome::FailedFirstEvent | AttemptOutcome::ErrorInStream => true,
        AttemptOutcome::Answered | AttemptOutcome::Complete => false,
    }
}

/// The deployment's rule; `None` if it has left the configuration or never cools.
fn rule(snapshot: &Snapshot, attempt: &AttemptRecord) -> Option<Cooldown> {
    let deployment = snapshot.deployments.get(&attempt.deployment)?;
    let cooldown = deployment.cooldown.unwrap_or(snapshot.cooldown);
    if cooldown.is_zero() {
        return None;
    }
    let alone = snapshot.groups.get(&deployment.meta.group).is_none_or(|g| g.deployments.len() < 2);
    let retry_after = attempt.retry_after_s.filter(|_| attempt.status == 429 && !alone);
    Some(Cooldown {
        deployment: attempt.deployment.clone(),
        allowed_fails: deployment.allowed_fails.unwrap_or(snapshot.allowed_fails),
        cooldown,
        retry_after: retry_after.filter(|&s| s > 0).map(|s| Duration::from_secs(s).min(MAX_RETRY_AFTER)),
    })
}
