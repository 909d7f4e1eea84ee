//! How often a group is tried again after a failure of a class.

use attache_llm::class::ErrorClass;

use super::names::Target;
use super::request::Request;
use super::{Deployment, RetryPolicy};

/// Retries in one group at most, whatever is configured or asked for.
pub(super) const MAX_RETRIES: u32 = 32;

/// In-group retries after a failure of this class: the request's `num_retries`, the policy's number for the class (the
/// group's, then the router's), the policy's default, the deployment's `num_retries`, the router's.
///
/// A class that is the request's own fault is retried only where a policy names it.
pub(super) fn retries(
    request: &Request<'_>,
    target: &Target<'_>,
    deployment: &Deployment,
    class: ErrorClass,
) -> u32 {
    let snapshot = request.snapshot;
    let own = snapshot.group_retry_policy.get(&target.group.name);
    let policies = || own.into_iter().chain([&snapshot.retry_policy]);
    let named = policies().find_map(|policy: &RetryPolicy| policy.classes.get(&class).copied());
    if named.is_none() && !class.is_retriable() {
        return 0;
    }
    let asked = request.ask.wishes.num_retries;
    let default = || policies().find_map(|policy| policy.default);
    let retries = asked.or(named).or_else(default).or(deployment.num_retries).unwrap_or(snapshot.num_retries);
    retries.min(MAX_RETRIES)
}
