//! What to do after a failed attempt, as a pure function of the plan's walk and the failure.
//!
//! Envoy walks the plan by itself; all that the adapter can do is to say no (`x-envoy-ratelimited`), to make an answer
//! look retriable, to ask for a wait, or to turn the answer into a redirect to another plan.

use attache_llm::class::ErrorClass;
use attache_llm::contract::{After, MAX_PASSES, Step, Walk};

/// Longest `retry-after` that is waited for, seconds.
const MAX_WAIT_S: u64 = 60;
/// Waits between attempts on one deployment that is overloaded and does not say for how long, seconds.
const BACK_OFF_S: [u64; 4] = [1, 1, 2, 4];
/// Stands for an error that Envoy would not retry by itself.
const RETRIABLE: u16 = 503;

/// A failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    pub class: ErrorClass,
    /// Status that the client would see.
    pub status: u16,
    /// `retry-after` of the upstream, seconds.
    pub retry_after_s: Option<u64>,
    /// Place in this pass's plan, from 0.
    pub step: usize,
    /// Pass of the request, from 0.
    pub pass: u32,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Envoy goes on to the next step if the plan has one: with another status when it would not for this one, and
    /// after some seconds.
    Next { status: Option<u16>, wait_s: Option<u64> },
    /// The client sees the error.
    Stop,
    /// Gate and sidecar are asked for another plan.
    Replan,
}

/// What to do after a failure. Without a walk the plan is plain: different deployments, no rules of its own.
#[must_use]
pub fn next(walk: Option<&Walk>, failed: &Failed) -> Move {
    let may_replan = failed.pass.saturating_add(1) < MAX_PASSES;
    let steps = walk.map_or(&[][..], |walk| walk.steps.as_slice());
    let own = steps.get(failed.step);
    match own.map_or_else(|| After::default_for(failed.class), |step| step.after(failed.class)) {
        After::Stop => return Move::Stop,
        After::Replan => return if may_replan { Move::Replan } else { Move::Stop },
        After::Next => {}
    }
    let mut wait_s = None;
    match (own, steps.get(failed.step.saturating_add(1))) {
        // The way over the sidecar can be saved: what the step would ask for can be asked for now.
        (_, Some(next)) if next.deployment.is_empty() => {
            return if may_replan { Move::Replan } else { Move::Stop };
        }
        (Some(own), Some(next)) if own.deployment == next.deployment => {
            if failed.retry_after_s.is_some_and(|seconds| seconds > MAX_WAIT_S) {
                return Move::Stop;
            }
            wait_s = wait(steps, failed).max(shortest(walk));
        }
        (Some(_), None) => return Move::Stop,
        _ => {}
    }
    Move::Next { status: (!envoy_retries(failed.status)).then_some(RETRIABLE), wait_s }
}

/// Does Envoy go on after this status by itself (`retry_on` and `retriable_status_codes` of the bootstrap)?
fn envoy_retries(status: u16) -> bool {
    matches!(status, 401 | 403 | 404 | 408 | 409 | 425 | 429 | 500..=599)
}

/// `retry_after` of the configuration, where it is set.
fn shortest(walk: Option<&Walk>) -> Option<u64> {
    walk.map(|walk| walk.min_wait_s.min(MAX_WAIT_S)).filter(|&seconds| seconds > 0)
}

/// Seconds before the same deployment is asked again.
fn wait(steps: &[Step], failed: &Failed) -> Option<u64> {
    match failed.retry_after_s {
        Some(seconds @ 1..=MAX_WAIT_S) => return Some(seconds),
        _ if !matches!(failed.status, 429 | 503 | 529) => return None,
        _ => {}
    }
    // Attempts on this deployment in a row, this one not counted.
    let before = steps.get(..failed.step).unwrap_or_default();
    let own = steps.get(failed.step)?;
    let row = before.iter().rev().take_while(|step| step.deployment == own.deployment).count();
    BACK_OFF_S.get(row.min(BACK_OFF_S.len().saturating_sub(1))).copied()
}

/// Class of an attempt that ended without an answer. `took_us` is a little more than the attempt itself took.
#[must_use]
pub fn silent_class(took_us: u64, per_try_ms: u64) -> ErrorClass {
    if per_try_ms > 0 && took_us / 1_000 >= per_try_ms {
        ErrorClass::Timeout
    } else {
        ErrorClass::ServiceUnavailable
    }
}

/// The same for the last attempt of a request, of which Envoy says more.
#[must_use]
pub fn silent_class_at_end(details: &str, took_us: u64, per_try_ms: u64) -> ErrorClass {
    let timeouts = ["response_timeout", "upstream_per_try_timeout", "upstream_per_try_idle_timeout"];
    if timeouts.iter().any(|timeout| details.starts_with(timeout)) {
        return ErrorClass::Timeout;
    }
    silent_class(took_us, per_try_ms)
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
