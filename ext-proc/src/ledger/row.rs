//! From a usage record to a row of the ledger.

use attache_llm::contract::{AttemptOutcome, AttemptRecord, UsageRecord};
use attache_llm::price::Price;
use attache_llm::usage::Usage;
use sha2::{Digest, Sha256};

use crate::prices::PriceTable;
use crate::routing::{Deployment, Snapshot};
use crate::store::SpendRow;

/// The ledger's row of one finished request, priced with the snapshot in force.
///
/// Tokens and cost are summed over every attempt that reports usage: a stream that failed after some tokens is
/// paid for as well. The cost is unknown (`None`) when one of these attempts has no known price. A wildcard's deployment
/// has no price of its own: `prices` knows the model that it was asked for.
#[must_use]
pub fn row(record: &UsageRecord, snapshot: &Snapshot, prices: &PriceTable) -> SpendRow {
    let answering = answering(&record.attempts);
    let deployment = answering.and_then(|attempt| snapshot.deployments.get(&attempt.deployment));
    let total = total_usage(&record.attempts);
    SpendRow {
        call_id: call_id(record),
        request_id: record.request_id.clone(),
        key: record.key.clone(),
        endpoint: record.endpoint.path().trim_start_matches('/').to_owned(),
        model: record.model.clone(),
        group: answering.map_or(&record.group, |attempt| &attempt.group).clone(),
        deployment: answering.map(|attempt| attempt.deployment.clone()).unwrap_or_default(),
        provider: deployment.map(|deployment| provider_name(&deployment.meta)).unwrap_or_default(),
        provider_model: provider_model(answering, deployment.map(|deployment| &**deployment)),
        user: record.user.clone(),
        stream: record.stream,
        status: record.status,
        outcome: outcome(record, answering).to_owned(),
        attempts: u32::try_from(record.attempts.len()).unwrap_or(u32::MAX),
        fallbacks: fallbacks(&record.group, &record.attempts),
        prompt_tokens: total.prompt,
        completion_tokens: total.completion,
        total_tokens: total.total,
        cached_tokens: total.cached,
        reasoning_tokens: total.reasoning,
        estimated: total.estimated,
        cost_nanos: cost(&record.attempts, snapshot, prices),
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
    attempts.iter().filter_map(|attempt| attempt.usage).fold(Usage::default(), |sum, usage| Usage {
        prompt: sum.prompt.saturating_add(usage.prompt),
        completion: sum.completion.saturating_add(usage.completion),
        total: sum.total.saturating_add(usage.total),
        cached: sum.cached.saturating_add(usage.cached),
        cache_creation: sum.cache_creation.saturating_add(usage.cache_creation),
        reasoning: sum.reasoning.saturating_add(usage.reasoning),
        audio_in: sum.audio_in.saturating_add(usage.audio_in),
        audio_out: sum.audio_out.saturating_add(usage.audio_out),
        estimated: sum.estimated || usage.estimated,
    })
}

/// Model at the provider: the attempt's own where the deployment's is a pattern.
fn provider_model(attempt: Option<&AttemptRecord>, deployment: Option<&Deployment>) -> String {
    let asked = attempt.and_then(|attempt| attempt.model.as_deref());
    asked.or(deployment.map(|deployment| deployment.meta.model.as_str())).unwrap_or_default().to_owned()
}

/// Price of an attempt: the deployment's, else that of the model it was asked for.
fn price(attempt: &AttemptRecord, deployment: &Deployment, prices: &PriceTable) -> Option<Price> {
    let listed = || prices.lookup_for(deployment.provider_name, attempt.model.as_deref()?)?.price;
    deployment.meta.price.or_else(listed)
}

fn cost(attempts: &[AttemptRecord], snapshot: &Snapshot, prices: &PriceTable) -> Option<i64> {
    let mut sum = 0_u64;
    for attempt in attempts {
        match &attempt.usage {
            Some(usage) => {
                let deployment = snapshot.deployments.get(&attempt.deployment)?;
                sum = sum.saturating_add(price(attempt, deployment, prices)?.cost(usage));
            }
            // A whole answer that nobody counted: its cost is unknown, not nothing.
            None if attempt.outcome == AttemptOutcome::Complete => return None,
            None => {}
        }
    }
    Some(i64::try_from(sum).unwrap_or(i64::MAX))
}

/// The provider's name as its enum is written (`openai`, `azure`).
fn provider_name(meta: &attache_llm::contract::DeploymentMeta) -> String {
    match serde_json::to_value(meta.provider) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}
