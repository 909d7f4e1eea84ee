//! After the request: reservations become what was really used, outcomes and speeds are counted.

use std::sync::Arc;
use std::time::Duration;

use attache_llm::class::ErrorClass;
use attache_llm::contract::{Ask, AttemptOutcome, AttemptRecord, Replan, UsageRecord};
use attache_llm::usage::Usage;

use super::admission::{Meter, Slot, Used, kinds};
use super::observe::{class_of, observe_all, outcomes};
use super::{Breakers, Deployment, LatencyArgs, Snapshot, Speeds, Strategy};
use crate::limits::{self, Owner};
use crate::store::{Charge, Counter, Counters, Sample, Settlement, Speed, SpendRow};

/// A timeout counts as this slow (LiteLLM's penalty), microseconds.
const TIMED_OUT: u64 = 1_000_000_000;

/// What settling a record found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// True tokens are on the counters, failures are counted.
    Done,
    /// Of the caller's limits and the deployment's, only one had a reservation still.
    Partly,
    /// The reservation was settled before (or its lease is over, or lost): nothing was counted again.
    Before,
    /// The counters are away; the lease ends the reservation.
    Away,
}

/// Settles a batch: what each request reserved is replaced by what it used, outcomes of attempts go to the circuit
/// breakers, speeds to latency-based routing. One call to the counters for each of the three.
///
/// `rows` are the ledger's of these records, in their order: a record is priced once, so that counters and ledger agree
/// whatever a reload does in between. Settling a record twice is settling it once. Answers in the order of the records.
pub async fn settle(
    snapshot: &Snapshot,
    counters: &Arc<dyn Counters>,
    breakers: &Breakers,
    speeds: &Speeds,
    records: &[UsageRecord],
    rows: &[SpendRow],
) -> Vec<Settled> {
    let settled = settle_reservations(snapshot, &**counters, records, rows).await;
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
    rows: &[SpendRow],
) -> Vec<Settled> {
    let mut settled = vec![Settled::Done; records.len()];
    let mut at = Vec::new();
    let mut settlements = Vec::new();
    for (index, (record, row)) in records.iter().zip(rows).enumerate() {
        for settlement in of_record(snapshot, record, row) {
            at.push(index);
            settlements.push(settlement);
        }
    }
    if settlements.is_empty() {
        return settled;
    }
    match counters.settle_all(&settlements).await {
        Ok(known) => {
            let mut counts = vec![(0_u32, 0_u32); records.len()];
            for (index, known) in at.into_iter().zip(known) {
                counts[index].0 += 1;
                counts[index].1 += u32::from(known);
            }
            for (settled, (asked, known)) in
                settled.iter_mut().zip(counts).filter(|(_, (asked, _))| *asked > 0)
            {
                *settled = match known {
                    0 => Settled::Before,
                    _ if known < asked => Settled::Partly,
                    _ => Settled::Done,
                };
            }
        }
        Err(error) => {
            tracing::debug!(%error, reservations = at.len(), "not settled; their leases will end them");
            at.into_iter().for_each(|index| settled[index] = Settled::Away);
        }
    }
    settled
}

/// One settlement for a request of one pass. After more of them the caller's limits are still held by the first pass's
/// reservation, beside that of the last pass.
fn of_record(snapshot: &Snapshot, record: &UsageRecord, row: &SpendRow) -> impl Iterator<Item = Settlement> {
    let slot = record.reservation.as_deref().and_then(|id| Slot::parse(id, &record.call_id));
    let deployment = slot.map(|slot| settlement(snapshot, &slot, &record.attempts, row));
    let owner = record.owner.as_deref().and_then(|text| Owner::decode(text, &record.key));
    let owner = owner.filter(Owner::counts_something);
    let owner = owner.map(|owner| owner.settlement(&record.call_id, &used(record, row)));
    match (deployment, owner) {
        (Some(mut one), Some(owner)) if one.id == owner.id => {
            one.actual.extend(owner.actual);
            [Some(one), None]
        }
        both => [both.0, both.1],
    }
    .into_iter()
    .flatten()
}

/// What the caller used: one request, however often it was tried, and the tokens of every attempt. Money as the ledger's
/// row has it; an unknown price is nothing. A client that left before anything was sent used nothing.
fn used(record: &UsageRecord, row: &SpendRow) -> limits::Used {
    let usages = || record.attempts.iter().filter_map(|attempt| attempt.usage);
    limits::Used {
        requests: u64::from(!record.aborted || !record.attempts.is_empty()),
        input: usages().fold(0, |sum, usage| sum.saturating_add(usage.prompt)),
        output: usages().fold(0, |sum, usage| sum.saturating_add(usage.completion)),
        nanos: nanos(row.cost_nanos),
    }
}

fn nanos(cost: Option<i64>) -> u64 {
    cost.and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or(0)
}

/// What the reserved deployment got in the reserved pass: it is where the pass began. Other deployments of the plan had
/// no limits to keep.
fn settlement(
    snapshot: &Snapshot,
    slot: &Slot<'_>,
    attempts: &[AttemptRecord],
    row: &SpendRow,
) -> Settlement {
    let of_pass = || (0_u32..).zip(attempts).filter(|(_, attempt)| attempt.pass == slot.pass);
    let first = of_pass().next().and_then(|(_, attempt)| snapshot.deployments.get(&attempt.deployment));
    let Some(deployment) = first else { return Settlement::end(slot.id(), Vec::new()) };
    let mut used = Used::default();
    for (at, attempt) in of_pass().filter(|(_, attempt)| attempt.deployment == deployment.meta.id) {
        used.requests = used.requests.saturating_add(1);
        let Some(usage) = &attempt.usage else { continue };
        used.tokens = used.tokens.saturating_add(tokens(usage));
        let line = row.lines.iter().find(|line| line.attempt == at);
        used.nanos = used.nanos.saturating_add(nanos(line.and_then(|line| line.cost_nanos)));
    }
    ended(snapshot, slot, deployment, used)
}

fn ended(snapshot: &Snapshot, slot: &Slot<'_>, deployment: &Deployment, used: Used) -> Settlement {
    let group = snapshot.groups.get(&deployment.meta.group);
    let kinds = kinds(snapshot, group.map_or(&Strategy::SimpleShuffle, |group| &group.strategy), deployment);
    let actual = Meter::new(snapshot, slot.minute).actual(deployment, &kinds, used);
    Settlement::end(slot.id(), actual)
}

fn tokens(usage: &Usage) -> u64 {
    match usage.total {
        0 => usage.prompt.saturating_add(usage.completion),
        total => total,
    }
}

/// Settles the pass before a replan, apart from the request path: its attempts all failed and used no tokens that
/// anyone told of. What the first pass holds of the caller's limits stays held.
pub(super) fn replanned(snapshot: &Arc<Snapshot>, counters: &Arc<dyn Counters>, ask: &Ask, replan: &Replan) {
    let reservation = replan.reservation.as_deref();
    let Some(slot) = reservation.and_then(|id| Slot::parse(id, &ask.call_id)) else { return };
    let of_pass = || replan.tried.iter().filter(|t| t.pass == slot.pass);
    let first = of_pass().next().and_then(|t| snapshot.deployments.get(&t.deployment));
    let owner = replan.owner.as_deref().and_then(|text| Owner::decode(text, &ask.key));
    let stays = slot.pass == 0 && owner.is_some_and(|owner| owner.counts_something());
    let settlement = match first {
        Some(deployment) => {
            let own = of_pass().filter(|t| t.deployment == deployment.meta.id);
            let used = Used { requests: own.count() as u64, ..Used::default() };
            let mut settlement = ended(snapshot, &slot, deployment, used);
            if stays {
                let counter = Counter { base: Arc::clone(&deployment.counters.in_flight), window: 0 };
                settlement.actual.push(Charge { counter, amount: 0, ttl: Duration::from_secs(60) });
            }
            Settlement { stays, ..settlement }
        }
        None if stays => return,
        None => Settlement::end(slot.id(), Vec::new()),
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
