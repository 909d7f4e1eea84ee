//! Outcomes of attempts on their way to the circuit breakers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use attache_llm::class::ErrorClass;
use attache_llm::contract::{AttemptOutcome, AttemptRecord, AttemptReport, UsageRecord};

use super::{Breakers, Deployment, Snapshot};
use crate::store::{Counters, Failure, Observation, Trip};

/// Longest cooldown that an upstream's `retry-after` may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3_600);
/// Default rule: more than this share of at least so many outcomes in a minute, beside another deployment.
const SHARE: (u32, u32) = (50, 5);
/// Default rule for a deployment that is alone in its group: nothing but failures, and many.
const LONE_SHARE: (u32, u32) = (99, 1_000);
/// Kind of the failures that one `allowed_fails` counts together.
const ANY: &str = "any";

/// How one attempt ended, as the breakers see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Success,
    /// Class, status (0: none) and the upstream's `retry-after`, seconds.
    Failure(ErrorClass, u16, Option<u64>),
    /// The client left: nobody knows how it would have ended.
    Left,
}

/// Counts outcomes that are known before their request's record, in one call to the counters.
pub async fn observe(
    snapshot: &Snapshot,
    counters: &Arc<dyn Counters>,
    breakers: &Breakers,
    reports: &[AttemptReport],
) {
    let outcomes = reports.iter().map(|report| {
        let outcome = outcome_of(report.outcome, report.status, report.class, report.retry_after_s);
        (report.deployment.as_str(), outcome)
    });
    observe_all(snapshot, &**counters, breakers, outcomes).await;
}

pub(super) async fn observe_all<'a>(
    snapshot: &Snapshot,
    counters: &dyn Counters,
    breakers: &Breakers,
    outcomes: impl Iterator<Item = (&'a str, Outcome)>,
) {
    let observations = observations(snapshot, breakers, outcomes);
    if observations.is_empty() {
        return;
    }
    match counters.observe(&observations).await {
        Ok(transitions) => breakers.apply(&transitions),
        // The counters log their outage once; a line per batch would drown it.
        Err(error) => tracing::debug!(%error, "outcomes not counted"),
    }
}

/// One observation per deployment of the configuration that can have a breaker at all.
fn observations<'a>(
    snapshot: &Snapshot,
    breakers: &Breakers,
    outcomes: impl Iterator<Item = (&'a str, Outcome)>,
) -> Vec<Observation> {
    let mut by_deployment: BTreeMap<&str, Observation> = BTreeMap::new();
    for (id, outcome) in outcomes {
        let Some(deployment) = snapshot.deployments.get(id) else { continue };
        if let Outcome::Failure(ErrorClass::Authentication, status, _) = outcome {
            breakers.credential_failed(id, status);
        }
        if outcome == Outcome::Left || snapshot.disable_cooldowns || cooldown(snapshot, deployment).is_zero()
        {
            continue;
        }
        let entry = by_deployment.entry(id).or_insert_with(|| Observation {
            deployment: id.to_owned(),
            successes: 0,
            failures: Vec::new(),
        });
        match outcome {
            Outcome::Success => entry.successes = entry.successes.saturating_add(1),
            Outcome::Failure(class, status, retry_after) => {
                entry.failures.push(failure(snapshot, deployment, class, status, retry_after));
            }
            Outcome::Left => {}
        }
    }
    by_deployment.into_values().collect()
}

/// Outcomes of a record's attempts that were not told before.
pub(super) fn outcomes<'a>(
    snapshot: &'a Snapshot,
    record: &'a UsageRecord,
) -> impl Iterator<Item = (&'a str, Outcome)> + 'a {
    let last = record.attempts.len().saturating_sub(1);
    let all = record.attempts.iter().enumerate().filter(|(_, attempt)| !attempt.reported);
    all.map(move |(index, attempt)| {
        let hung_up = record.aborted && index == last;
        let outcome = match attempt.outcome {
            AttemptOutcome::NoAnswer if hung_up => Outcome::Left,
            other => {
                outcome_of(other, attempt.status, class_of(snapshot, record, attempt), attempt.retry_after_s)
            }
        };
        (attempt.deployment.as_str(), outcome)
    })
}

fn outcome_of(
    outcome: AttemptOutcome,
    status: u16,
    class: Option<ErrorClass>,
    retry_after: Option<u64>,
) -> Outcome {
    let class = match outcome {
        AttemptOutcome::Answered | AttemptOutcome::Complete => return Outcome::Success,
        AttemptOutcome::ErrorStatus => class.unwrap_or_else(|| ErrorClass::of_status(status)),
        _ => class.unwrap_or(ErrorClass::ServiceUnavailable),
    };
    // What the client broke itself says that the deployment is there and answers.
    if class.is_retriable() { Outcome::Failure(class, status, retry_after) } else { Outcome::Success }
}

/// Class of a failed attempt. Of a plain plan the adapter does not know the limit of an attempt, so that a timeout
/// without an answer is told here by how long it took.
pub(super) fn class_of(
    snapshot: &Snapshot,
    record: &UsageRecord,
    attempt: &AttemptRecord,
) -> Option<ErrorClass> {
    let unsure = matches!(attempt.class, None | Some(ErrorClass::ServiceUnavailable));
    if attempt.outcome != AttemptOutcome::NoAnswer || !unsure || attempt.duration_us == 0 {
        return attempt.class;
    }
    let deployment = snapshot.deployments.get(&attempt.deployment)?;
    let whole = deployment.timeout.unwrap_or(snapshot.timeout);
    let first_event = deployment.stream_timeout.or(snapshot.stream_timeout);
    let limit = if record.stream { first_event.unwrap_or(whole) } else { whole };
    let timed_out = !limit.is_zero() && Duration::from_micros(attempt.duration_us) >= limit;
    if timed_out { Some(ErrorClass::Timeout) } else { attempt.class }
}

fn cooldown(snapshot: &Snapshot, deployment: &Deployment) -> Duration {
    deployment.cooldown.unwrap_or(snapshot.cooldown)
}

/// A failure with the rule that may open the breaker (docs/routing.md, "Cooldowns").
fn failure(
    snapshot: &Snapshot,
    deployment: &Deployment,
    class: ErrorClass,
    status: u16,
    retry_after: Option<u64>,
) -> Failure {
    let own = cooldown(snapshot, deployment);
    let told = retry_after.filter(|&seconds| class == ErrorClass::RateLimit && seconds > 0);
    let told = told.map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
    Failure {
        reason: reason(class, status),
        cooldown: told.unwrap_or(own),
        trip: trip(snapshot, deployment, class, told.is_some(), own),
    }
}

fn reason(class: ErrorClass, status: u16) -> String {
    match (class, status) {
        (ErrorClass::Authentication, _) => format!("credential failure {status}"),
        (_, 0) => class.name().to_owned(),
        _ => format!("{} {status}", class.name()),
    }
}

fn trip(
    snapshot: &Snapshot,
    deployment: &Deployment,
    class: ErrorClass,
    told: bool,
    window: Duration,
) -> Trip {
    let alone = snapshot.groups.get(&deployment.meta.group).is_none_or(|g| g.deployments.len() < 2);
    let count = |kind: &str, allowed| Trip::Count { kind: kind.to_owned(), allowed, window };
    let named = deployment.allowed_fails_policy.get(&class);
    // The deployment's own settings are over the router's, whichever of the two kinds they are.
    let router =
        deployment.allowed_fails.is_none().then(|| snapshot.allowed_fails_policy.get(&class)).flatten();
    if let Some(&allowed) = named.or(router) {
        return count(class.name(), allowed);
    }
    if told && !alone {
        // It said itself when it serves again.
        return Trip::Now;
    }
    if let Some(allowed) = deployment.allowed_fails.or(snapshot.breaker_allowed_fails) {
        return count(ANY, allowed);
    }
    let share = |(percent, min)| Trip::Share { percent, min };
    match class {
        _ if alone => share(LONE_SHARE),
        ErrorClass::RateLimit | ErrorClass::Authentication | ErrorClass::NotFound => Trip::Now,
        _ => share(SHARE),
    }
}

#[cfg(test)]
#[path = "observe_tests.rs"]
mod tests;
