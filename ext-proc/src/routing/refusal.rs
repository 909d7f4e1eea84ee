//! What a decision says instead of a plan. Texts and statuses are [`ApiError`]'s; here is what only the log may see.

use attache_llm::contract;
use attache_llm::error::ApiError;

use crate::store::StoreError;

pub(super) fn contract_mismatch(theirs: u32) -> ApiError {
    ApiError::version_mismatch(contract::VERSION, theirs)
}

pub(super) fn keys_away(error: &StoreError) -> ApiError {
    ApiError::auth_unavailable().with_internal(error.to_string())
}

/// Every deployment that the request could use is cooling; the first is back in `seconds`.
pub(super) fn all_cooling(group: &str, seconds: u64) -> ApiError {
    ApiError::all_in_cooldown(group, seconds.max(1))
}

pub(super) fn no_live_cluster(group: &str) -> ApiError {
    ApiError::no_upstream(group)
        .with_internal(format!("Envoy has acknowledged no cluster of {group} or of its fallbacks"))
}
