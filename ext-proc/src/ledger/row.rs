//! From a usage record to a row of the ledger.

use attache_llm::contract::{AttemptOutcome, AttemptRecord, UsageRecord};
use attache_llm::path::Endpoint;
use attache_llm::price::Bill;
use attache_llm::usage::Usage;
use sha2::{Digest, Sha256};

use crate::limits::Owner;
use crate::routing::{Deployment, Snapshot};
use crate::store::{SpendLine, SpendRow};

/// The ledger's row of one finished request, priced with the snapshot in force.
///
/// Every attempt that reports usage is a line of it: a stream that failed after some tokens is paid for as well. The
/// cost is unknown (`None`) when that of a line is. The row is charged to everyone in whose name the request was made, as
/// the decision knew them.
#[must_use]
pub fn row(record: &UsageRecord, snapshot: &Snapshot) -> SpendRow {
    let answering = answering(&record.attempts);
    let deployment = answering.and_then(|attempt| snapshot.deployments.get(&attempt.deployment));
    let total = total_usage(&record.attempts);
    let lines = lines(record, snapshot);
    let owner = record.owner.as_deref().and_then(|text| Owner::decode(text, &record.key));
    let id = |id: fn(&Owner) -> Option<&str>| owner.as_ref().and_then(id).map(str::to_owned);
    SpendRow {
        call_id: call_id(record),
        request_id: record.request_id.clone(),
        key: record.key.clone(),
        endpoint: record.endpoint.path().trim_start_matches('/').to_owned(),
        // Where the client named none, the sidecar did.
        model: if record.model.is_empty() { &record.group } else { &record.model }.clone(),
        group: answering.map_or(&record.group, |attempt| &attempt.group).clone(),
        deployment: answering.map(|attempt| attempt.deployment.clone()).unwrap_or_default(),
        provider: deployment.map(|deployment| deployment.provider_name.to_owned()).unwrap_or_default(),
        provider_model: provider_model(answering, deployment.map(|deployment| &**deployment)),
        user: record.user.clone(),
        user_id: id(Owner::user_id),
        team_id: id(Owner::team_id),
        organization_id: id(Owner::organization_id),
        tags: owner.as_ref().map(Owner::tags).unwrap_or_default(),
        charged: owner.as_ref().map(Owner::charged).unwrap_or_default(),
        stream: record.stream,
        status: record.status,
        outcome: outcome(record, answering).to_owned(),
        attempts: u32::try_from(record.attempts.len()).unwrap_or(u32::MAX),
        fallbacks: fallbacks(&record.group, &record.attempts),
        prompt_tokens: total.prompt,
        completion_tokens: total.completion,
        total_tokens: total.total,
        cached_tokens: total.cached,
        cache_write_tokens: total.cache_creation,
        reasoning_tokens: total.reasoning,
        estimated: total.estimated,
        cost_nanos: lines.iter().try_fold(0_i64, |sum, line| Some(sum.saturating_add(line.cost_nanos?))),
        lines,
        start_us: record.start_us,
        duration_us: record.duration_us,
        first_event_us: record.first_event_us,
    }
}

/// The ledger's key. A record without an id (no gate makes one) gets one from its content, so that sending it
/// again still counts once.
fn call_id(record: &UsageRecord) -> String {
    if !record.call_id.is_empty() {
        return record.call_id.clone();
    }
    let content = serde_json::to_vec(record).unwrap_or_default();
    format!("unnamed-{}", hex::encode(Sha256::digest(content)))
}

/// The attempt that the client's answer came from: the last that committed one, else the last.
fn answering(attempts: &[AttemptRecord]) -> Option<&AttemptRecord> {
    let committed = |attempt: &&AttemptRecord| {
        use AttemptOutcome::{Answered, Complete, ErrorInStream};
        matches!(attempt.outcome, Answered | Complete | ErrorInStream)
    };
    attempts.iter().rev().find(committed).or(attempts.last())
}

fn outcome(record: &UsageRecord, answering: Option<&AttemptRecord>) -> &'static str {
    if record.aborted {
        return "aborted";
    }
    // A stream that broke after a good start has status 200 all the same.
    let whole = match answering.map(|attempt| attempt.outcome) {
        Some(AttemptOutcome::ErrorInStream) => false,
        Some(AttemptOutcome::Answered) => {
            !record.details.starts_with("upstream_reset") && !record.details.contains("timeout")
        }
        _ => true,
    };
    if whole && (200..400).contains(&record.status) { "success" } else { "failure" }
}

/// Changes of group. Beginning outside the group `planned` for is one: all of that group was cooling.
fn fallbacks(planned: &str, attempts: &[AttemptRecord]) -> u32 {
    let changes = attempts.windows(2).filter(|pair| pair[0].group != pair[1].group).count();
    let passed_over = attempts.first().is_some_and(|first| !planned.is_empty() && first.group != planned);
    u32::try_from(changes).unwrap_or(u32::MAX).saturating_add(u32::from(passed_over))
}

fn total_usage(attempts: &[AttemptRecord]) -> Usage {
    let usages = attempts.iter().filter_map(|attempt| attempt.usage.as_ref());
    usages.fold(Usage::default(), Usage::plus)
}

/// The attempts that somebody has to pay for: those with usage, and whole answers that nobody counted.
fn lines(record: &UsageRecord, snapshot: &Snapshot) -> Vec<SpendLine> {
    let paid =
        |attempt: &AttemptRecord| attempt.usage.is_some() || attempt.outcome == AttemptOutcome::Complete;
    let numbered = (0_u32..).zip(&record.attempts).filter(|(_, attempt)| paid(attempt));
    numbered.map(|(at, attempt)| line(at, attempt, record.endpoint, snapshot)).collect()
}

fn line(at: u32, attempt: &AttemptRecord, endpoint: Endpoint, snapshot: &Snapshot) -> SpendLine {
    let deployment = snapshot.deployments.get(&attempt.deployment).map(|deployment| &**deployment);
    let price = deployment.and_then(|deployment| snapshot.price(deployment, attempt.model.as_deref()));
    let bill = match endpoint.is_free() {
        // Also where nobody knows a price.
        true => Some(Bill::default()),
        false => price.zip(attempt.usage.as_ref()).and_then(|(price, usage)| price.cover(usage)),
    };
    let usage = attempt.usage.unwrap_or_default();
    SpendLine {
        attempt: at,
        deployment: attempt.deployment.clone(),
        group: attempt.group.clone(),
        provider: deployment.map(|deployment| deployment.provider_name.to_owned()).unwrap_or_default(),
        model: provider_model(Some(attempt), deployment),
        outcome: attempt.outcome.name().to_owned(),
        status: attempt.status,
        prompt: usage.prompt,
        completion: usage.completion,
        cached: usage.cached,
        cache_write: usage.cache_creation,
        reasoning: usage.reasoning,
        estimated: usage.estimated,
        cost_nanos: bill.as_ref().map(|bill| i64::try_from(bill.nanos).unwrap_or(i64::MAX)),
        factors: bill.map(|bill| bill.encode()).unwrap_or_default(),
    }
}

/// Model at the provider: the attempt's own where the deployment's is a pattern.
fn provider_model(attempt: Option<&AttemptRecord>, deployment: Option<&Deployment>) -> String {
    let asked = attempt.and_then(|attempt| attempt.model.as_deref());
    asked.or(deployment.map(|deployment| deployment.meta.model.as_str())).unwrap_or_default().to_owned()
}
