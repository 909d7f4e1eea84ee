//! Refusals of a decision, with LiteLLM's statuses, types and texts. `kind` doubles as the name of the refusal in
//! Envoy's response code details and in metrics.

use std::borrow::Cow;

use attache_llm::contract;
use attache_llm::error::{ApiError, Blame};

use crate::store::{KeyRow, StoreError};

/// Seconds after which a gateway that is not ready yet may be asked again.
const NOT_READY_RETRY_S: u64 = 1;

fn refusal(status: u16, kind: &'static str, blame: Blame, message: String) -> ApiError {
    ApiError {
        status,
        kind: Cow::Borrowed(kind),
        code: None,
        param: None,
        message,
        internal: None,
        blame,
        retriable: false,
        retry_after_s: None,
    }
}

pub(crate) fn contract_mismatch(theirs: u32) -> ApiError {
    let ours = contract::VERSION;
    ApiError {
        internal: Some(format!("filter speaks contract {theirs}, this sidecar {ours}: deploy both from one release")),
        ..refusal(503, "contract_mismatch", Blame::Gateway, "The gateway is being updated. Try again.".to_owned())
    }
    .retry_in(NOT_READY_RETRY_S)
}

pub(crate) fn bad_ask(reason: String) -> ApiError {
    let message = "The gateway could not read its own question.".to_owned();
    ApiError { internal: Some(reason), ..refusal(500, "internal_server_error", Blame::Gateway, message) }
}

pub(super) fn unknown_key() -> ApiError {
    let message = "Authentication Error, Invalid API key provided.".to_owned();
    ApiError { param: Some("key".into()), ..refusal(401, "token_not_found_in_db", Blame::Client, message) }
}

pub(super) fn blocked_key() -> ApiError {
    let message = "Authentication Error, Key is blocked. Update via `/key/unblock` if you're an admin.".to_owned();
    refusal(401, "auth_error", Blame::Client, message)
}

pub(super) fn expired_key(row: &KeyRow, now_ms: u64) -> ApiError {
    let expiry = timestamp(row.key.expires_ms.unwrap_or(0));
    let now = timestamp(now_ms);
    let message = format!("Authentication Error - Expired Key. Key Expiry time {expiry} and current time {now}");
    ApiError { param: Some(row.key.name.clone().into()), ..refusal(401, "expired_key", Blame::Client, message) }
}

pub(super) fn keys_away(error: &StoreError) -> ApiError {
    let message = "The key database is unavailable. Try again.".to_owned();
    ApiError { internal: Some(error.to_string()), ..refusal(503, "no_db_connection", Blame::Gateway, message) }
        .retry_in(NOT_READY_RETRY_S)
}

pub(super) fn model_denied(model: &str) -> ApiError {
    let message = format!(
        "The requested model '{model}' is not available for this API key, or the model name is invalid. Check the \
         models available to you and try again."
    );
    ApiError { param: Some("model".into()), ..refusal(403, "key_model_access_denied", Blame::Client, message) }
}

pub(super) fn unknown_model(model: &str) -> ApiError {
    let message = format!(
        "Invalid model name passed in model={model}. Call `/v1/models` to view available models for your key."
    );
    ApiError {
        param: Some("model".into()),
        code: Some("model_not_found".into()),
        ..refusal(404, "invalid_request_error", Blame::Client, message)
    }
}

/// Every deployment that the request could use is cooling; the first is back in `seconds`.
pub(super) fn all_cooling(group: &str, seconds: u64) -> ApiError {
    let seconds = seconds.max(1);
    let message = format!(
        "No deployments available for selected model, Try again in {seconds} seconds. All deployments for selected \
         model are in cooldown. Passed model={group}."
    );
    refusal(429, "all_deployments_in_cooldown", Blame::Upstream, message).retry_in(seconds)
}

pub(super) fn no_live_cluster(group: &str) -> ApiError {
    let message = format!("No deployment of model {group} is ready yet. Try again.");
    ApiError {
        internal: Some("Envoy has acknowledged no cluster of the group or its fallbacks".to_owned()),
        ..refusal(503, "no_deployment_ready", Blame::Gateway, message)
    }
    .retry_in(NOT_READY_RETRY_S)
}

trait RetryIn {
    fn retry_in(self, seconds: u64) -> Self;
}

impl RetryIn for ApiError {
    fn retry_in(self, seconds: u64) -> Self {
        Self { retriable: true, retry_after_s: Some(seconds), ..self }
    }
}

fn timestamp(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1_000).unwrap_or(i64::MAX);
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second]+00:00");
    time::OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|t| t.format(format).ok()).unwrap_or_default()
}
