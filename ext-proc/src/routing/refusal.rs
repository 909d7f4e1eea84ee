//! What a decision says instead of a plan. Texts and statuses are [`ApiError`]'s; here is which one, and what only the
//! log may see.

use attache_llm::class::ErrorClass;
use attache_llm::contract;
use attache_llm::dialect::support;
use attache_llm::error::{ApiError, mask_secrets};

use super::candidates::Tally;
use super::choose::Fullness;
use super::names::Target;
use super::request::Request;
use crate::store::StoreError;

pub(super) fn contract_mismatch(theirs: u32) -> ApiError {
    ApiError::version_mismatch(contract::VERSION, theirs)
}

pub(super) fn keys_away(error: &StoreError) -> ApiError {
    ApiError::auth_unavailable().with_internal(error.to_string())
}

/// Limits are enforced or nothing goes (`fail_closed_rate_limit_enforcement`).
pub(super) fn counters_away(error: &StoreError) -> ApiError {
    ApiError::limits_unavailable().with_internal(error.to_string())
}

/// Budgets are enforced or nothing goes (`fail_closed_budget_enforcement`).
pub(super) fn spend_unknown(error: &StoreError) -> ApiError {
    ApiError::limits_unavailable().with_internal(error.to_string())
}

/// Nobody is left who could serve the request. `full`: somebody could, but has no room.
pub(super) fn nobody(
    request: &Request<'_>,
    target: &Target<'_>,
    tally: &Tally,
    full: Option<Fullness>,
) -> ApiError {
    let model = request.ask.model.as_str();
    let wait = |until_ms: u64| until_ms.saturating_sub(request.now_ms).div_ceil(1_000).max(1);
    let back = tally.back_ms.map(wait);
    if let Some(full) = full {
        let seconds = full.wait_s.into_iter().chain(back).min().unwrap_or(1);
        return match full {
            Fullness { only_probes: true, .. } => ApiError::all_in_cooldown(model, seconds),
            Fullness { only_budgets: true, .. } => ApiError::budget_exhausted(model, seconds),
            _ => ApiError::no_room(model, seconds),
        };
    }
    if !request.tried().is_empty() {
        // Where the gate still has a provider's own error, that is what the client sees.
        return exhausted(request, target);
    }
    if let Some(seconds) = back {
        return ApiError::all_in_cooldown(model, seconds);
    }
    if let Some(limit) = tally.too_small {
        return ApiError::context_window_exceeded(model, request.estimate.input, limit);
    }
    if let Some(need) = tally.lacks {
        return lacks(request, need);
    }
    if tally.tags {
        return ApiError::no_tag_match(model, &request.ask.wishes.tags);
    }
    if tally.region {
        let region = request.ask.wishes.region.as_deref().unwrap_or_default();
        let message = format!("No deployment of the model is in region '{}'.", mask_secrets(region));
        return ApiError::invalid_request(message, Some("allowed_model_region"));
    }
    if tally.no_credential {
        let error = ApiError::no_upstream(model);
        let message =
            "The gateway has no valid credential for the model's provider at the moment.".to_owned();
        return ApiError { message, ..error };
    }
    exhausted(request, target)
}

/// No deployment can do what is asked.
fn lacks(request: &Request<'_>, need: usize) -> ApiError {
    let model = request.ask.model.as_str();
    match request.ask.needs.get(need) {
        Some(need) => support::unsupported(need, model),
        None => {
            let endpoint = request.ask.endpoint.path();
            let message = format!("'{}' cannot be used with {endpoint}.", mask_secrets(model));
            let error = ApiError::invalid_request(message, Some("model"));
            ApiError { code: Some("unsupported_endpoint".into()), ..error }
        }
    }
}

fn exhausted(request: &Request<'_>, target: &Target<'_>) -> ApiError {
    let error = ApiError::no_upstream(&request.ask.model);
    match request.tried().last() {
        Some(last) if last.class == ErrorClass::Timeout => {
            let message = "The provider did not answer in time.".to_owned();
            ApiError { status: 504, message, kind: "timeout_error".into(), ..error }
        }
        Some(last) => {
            error.with_internal(format!("every attempt failed, the last with {}", last.class.name()))
        }
        None => error.with_internal(format!(
            "Envoy has acknowledged no cluster of {} or of its fallbacks",
            target.group.name
        )),
    }
}
