use std::time::Duration;

use attache_llm::path::Endpoint;

use super::request::Request;
use super::{Deployment, Timeouts};

/// Longest request that a plan may make of its attempts' timeouts.
pub(super) const MAX_TOTAL: Duration = Duration::from_secs(2 * 3_600);
/// Longest wait before the same deployment is asked again.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Longest realtime session that providers allow.
const SESSION: Duration = Duration::from_secs(3_600);
/// For the way to another plan.
const REPLAN: Duration = Duration::from_secs(5);

/// Limit of one attempt; for streams of its first event. The request's own, the deployment's, the router's. Zero: none.
pub(super) fn per_try(request: &Request<'_>, deployment: &Deployment) -> Duration {
    let wishes = &request.ask.wishes;
    let first_event = || {
        let asked = wishes.stream_timeout_ms.map(Duration::from_millis);
        asked.or(deployment.stream_timeout).or(request.snapshot.stream_timeout)
    };
    first_event().filter(|_| request.ask.stream).unwrap_or_else(|| whole(request, deployment))
}

/// Limit of a whole answer.
pub(super) fn whole(request: &Request<'_>, deployment: &Deployment) -> Duration {
    let asked = request.ask.wishes.timeout_ms.map(Duration::from_millis);
    let session = request.ask.endpoint == Endpoint::Realtime;
    asked.or(deployment.timeout).unwrap_or(if session { SESSION } else { request.snapshot.timeout })
}

/// Envoy reads both limits once per pass, so that the first deployment's limit of one attempt holds for all. The pass
/// may take as long as every earlier attempt timing out, the waits between attempts on the same deployment, and the last
/// attempt running to its end.
pub(super) fn timeouts(request: &Request<'_>, attempts: &[&Deployment], replan: bool) -> Timeouts {
    let first = attempts.first().map_or(request.snapshot.timeout, |d| per_try(request, d));
    let wholes = || attempts.iter().map(|d| whole(request, d));
    let longest = wholes().max().unwrap_or(first).max(first);
    let per_try = Some(first).filter(|limit| !limit.is_zero());
    if wholes().any(|whole| whole.is_zero()) {
        // One attempt may take for ever.
        return Timeouts { total: Duration::ZERO, per_try };
    }
    let earlier = u32::try_from(attempts.len().saturating_sub(1)).unwrap_or(u32::MAX);
    let same = attempts.windows(2).filter(|pair| pair[0].meta.id == pair[1].meta.id).count();
    let waits = MAX_WAIT.saturating_mul(u32::try_from(same).unwrap_or(u32::MAX));
    let replan = if replan { REPLAN } else { Duration::ZERO };
    let total =
        first.saturating_mul(earlier).saturating_add(longest).saturating_add(waits).saturating_add(replan);
    Timeouts { total: total.min(MAX_TOTAL.max(longest)), per_try }
}
