//! After the request: reservations become what was really used, outcomes and speeds are counted.

use std::sync::Arc;
use std::time::Duration;

use attache_llm::class::ErrorClass;
use attache_llm::contract::{AttemptOutcome, AttemptRecord, Replan, UsageRecord};
use attache_llm::usage::Usage;

use super::admission::{Meter, Slot, Used, kinds};
use super::observe::{class_of, observe_all, outcomes};
use super::{Breakers, Deployment, LatencyArgs, Snapshot, Speeds, Strategy};
use crate::store::{Counters, Sample, Settlement, Speed};

/// A timeout counts as this slow (LiteLLM's penalty), microseconds.
const TIMED_OUT: u64 = 1_000_000_000;

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

/// Settles a batch: what each request reserved is replaced by what it used, outcomes of attempts go to the circuit
/// breakers, speeds to latency-based routing. One call to the counters for each of the three.
///
/// Settling a record twice is settling it once. Answers in the order of the records.
pub async fn settle(
    snapshot: &Snapshot,
    counters: &Arc<dyn Counters>,
    breakers: &Breakers,
    speeds: &Speeds,
    records: &[UsageRecord],
) -> Vec<Settled> {
    let settled = settle_reservations(snapshot, &**counters, records).await;
    // A request that was planned anew may have no reservation of its last pass: its attempts are news all the same.
    let news = || {
        let pairs = records.iter().zip(&settled);
        pairs
            .filter(|(record, settled)| **settled != Settled::Before || record.replans > 0)
            .map(|(record, _)| record)
    };
    observe_all(snapshot, &**counters, breakers, news().flat_map(|record| outcomes(snapshot, record))).await;
    add_samples(snapshot, &**counters, speeds, news()).await;
    settled
}

async fn settle_reservations(
    snapshot: &Snapshot,
    counters: &dyn Counters,
    records: &[UsageRecord],
) -> Vec<Settled> {
    let mut settled = vec![Settled::Done; records.len()];
    let mut at = Vec::new();
    let mut settlements = Vec::new();
    for (index, record) in records.iter().enumerate() {
        let Some(slot) = record.reservation.as_deref().and_then(|id| Slot::parse(id, &record.call_id)) else {
            continue;
        };
        at.push(index);
        settlements.push(settlement(snapshot, &slot, &record.attempts));
    }
    if settlements.is_empty() {
        return settled;
    }
    match counters.settle_all(&settlements).await {
        Ok(known) => {
            for (index, known) in at.into_iter().zip(known) {
                settled[index] = if known { Settled::Done } else { Settled::Before };
            }
        }
        Err(error) => {
            tracing::debug!(%error, reservations = at.len(), "not settled; their leases will end them");
            at.into_iter().for_each(|index| settled[index] = Settled::Away);
        }
    }
    settled
}

/// What the reserved deployment got in the reserved pass: it is where the pass began. Other deployments of the plan had
/// no limits to keep.
fn settlement(snapshot: &Snapshot, slot: &Slot<'_>, attempts: &[AttemptRecord]) -> Settlement {
    let of_pass = || attempts.iter().filter(|a| a.pass == slot.pass);
    let first = of_pass().next().and_then(|a| snapshot.deployments.get(&a.deployment));
    let Some(deployment) = first else { return Settlement { id: slot.id(), actual: Vec::new() } };
    let mut used = Used::default();
    for attempt in of_pass().filter(|a| a.deployment == deployment.meta.id) {
        used.requests = used.requests.saturating_add(1);
        let Some(usage) = &attempt.usage else { continue };
        used.tokens = used.tokens.saturating_add(tokens(usage));
        let price = snapshot.price(deployment, attempt.model.as_deref());
        used.nanos = used.nanos.saturating_add(price.map_or(0, |price| price.cost(usage)));
    }
    ended(snapshot, slot, deployment, used)
}

fn ended(snapshot: &Snapshot, slot: &Slot<'_>, deployment: &Deployment, used: Used) -> Settlement {
    let group = snapshot.groups.get(&deployment.meta.group);
    let kinds = kinds(snapshot, group.map_or(&Strategy::SimpleShuffle, |group| &group.strategy), deployment);
    let actual = Meter::new(snapshot, slot.minute).actual(deployment, &kinds, used);
    Settlement { id: slot.id(), actual }
}

fn tokens(usage: &Usage) -> u64 {
    match usage.total {
        0 => usage.prompt.saturating_add(usage.completion),
        total => total,
    }
}

/// Settles the pass before a replan, apart from the request path: its attempts all failed and used no tokens that
/// anyone told of.
pub(super) fn replanned(
    snapshot: &Arc<Snapshot>,
    counters: &Arc<dyn Counters>,
    call_id: &str,
    replan: &Replan,
) {
    let Some(slot) = replan.reservation.as_deref().and_then(|id| Slot::parse(id, call_id)) else { return };
    let of_pass = || replan.tried.iter().filter(|t| t.pass == slot.pass);
    let first = of_pass().next().and_then(|t| snapshot.deployments.get(&t.deployment));
    let settlement = match first {
        Some(deployment) => {
            let own = of_pass().filter(|t| t.deployment == deployment.meta.id);
            let used = Used { requests: own.count() as u64, ..Used::default() };
            ended(snapshot, &slot, deployment, used)
        }
        None => Settlement { id: slot.id(), actual: Vec::new() },
    };
    let counters = Arc::clone(counters);
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    runtime.spawn(async move {
        if let Err(error) = counters.settle_all(std::slice::from_ref(&settlement)).await {
            tracing::debug!(reservation = settlement.id, %error, "not settled; its lease will end it");
        }
    });
}

async fn add_samples<'a>(
    snapshot: &Snapshot,
    counters: &dyn Counters,
    speeds: &Speeds,
    records: impl Iterator<Item = &'a UsageRecord>,
) {
    // Groups may keep different numbers of samples; nearly always there is one setting.
    let mut by_args: Vec<(&LatencyArgs, Vec<Sample>)> = Vec::new();
    for record in records {
        for attempt in &record.attempts {
            let Some(args) = latency_args(snapshot, &attempt.deployment) else { continue };
            let Some(sample) = sample(snapshot, record, attempt) else { continue };
            match by_args.iter_mut().find(|(known, _)| *known == args) {
                Some((_, samples)) => samples.push(sample),
                None => by_args.push((args, vec![sample])),
            }
        }
    }
    for (args, samples) in by_args {
        speeds.add(&samples);
        // A sample must outlive its own second, whatever is configured.
        let ttl = args.ttl.max(Duration::from_secs(1));
        if let Err(error) = counters.add_samples(&samples, args.samples.max(1), ttl).await {
            tracing::debug!(%error, "speeds not kept");
        }
    }
}

fn latency_args<'a>(snapshot: &'a Snapshot, deployment: &str) -> Option<&'a LatencyArgs> {
    let group = &snapshot.deployments.get(deployment)?.meta.group;
    match &snapshot.groups.get(group)?.strategy {
        Strategy::Latency(args) => Some(args),
        _ => None,
    }
}

/// Streams are measured to their first event, whole answers per completion token.
fn sample(snapshot: &Snapshot, record: &UsageRecord, attempt: &AttemptRecord) -> Option<Sample> {
    let speed = if record.stream { Speed::FirstEvent } else { Speed::PerToken };
    let micros = match attempt.outcome {
        AttemptOutcome::Answered | AttemptOutcome::Complete if record.stream => attempt.first_event_us?,
        AttemptOutcome::Complete => {
            let whole = if attempt.duration_us > 0 { attempt.duration_us } else { attempt.first_event_us? };
            whole / attempt.usage.map_or(1, |usage| usage.completion.max(1))
        }
        AttemptOutcome::Answered => return None,
        _ if class_of(snapshot, record, attempt) == Some(ErrorClass::Timeout) => TIMED_OUT,
        _ => return None,
    };
    Some(Sample { deployment: attempt.deployment.clone(), speed, micros })
}
