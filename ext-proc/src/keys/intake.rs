//! Reading the key from a request's headers, in every place the SDKs put it.

use attache_llm::error::{ApiError, Blame};
use http::HeaderMap;

/// Headers beside `authorization`, in LiteLLM's order.
const HEADERS: [&str; 4] = ["x-litellm-api-key", "x-api-key", "api-key", "x-goog-api-key"];

/// The caller's key: `extra` (`litellm_key_header_name`) first if it is there, then `Authorization: Bearer`, then
/// the headers of the Anthropic, Azure and Google SDKs.
///
/// # Errors
/// 401 when there is none, when `authorization` lacks `Bearer `, or when it does not start with `sk-` (which also
/// keeps a leaked hash from being used as a key).
pub fn key_of<'a>(headers: &'a HeaderMap, extra: Option<&str>) -> Result<&'a str, ApiError> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default().trim());
    let found = match extra.and_then(text) {
        Some(value) => Some(bearer(value).unwrap_or(value)),
        None => match text("authorization") {
            Some(value) => Some(bearer(value).ok_or_else(malformed)?),
            None => HEADERS.iter().find_map(|name| text(name)).map(|value| bearer(value).unwrap_or(value)),
        },
    };
    let key = found.filter(|key| !key.is_empty()).ok_or_else(missing)?;
    if key.starts_with("sk-") { Ok(key) } else { Err(not_a_key(key)) }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, rest) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim())
}

/// A 401 in the shape and words LiteLLM's clients know.
pub(super) fn refused(kind: &'static str, param: Option<String>, message: String) -> ApiError {
    ApiError {
        status: 401,
        kind: kind.into(),
        code: None,
        param: param.map(Into::into),
        message,
        internal: None,
        blame: Blame::Client,
        retriable: false,
        retry_after_s: None,
    }
}

fn missing() -> ApiError {
    refused("auth_error", None, "Authentication Error, No api key passed in.".to_owned())
}

fn malformed() -> ApiError {
    let message = "Authentication Error, Malformed API Key passed in. Ensure Key has `Bearer ` prefix.";
    refused("auth_error", None, message.to_owned())
}

fn not_a_key(key: &str) -> ApiError {
    let shown = match (key.get(..4), key.len().checked_sub(4).and_then(|at| key.get(at..))) {
        (Some(first), Some(last)) if key.len() >= 16 => format!("{first}****{last}"),
        _ => "****".to_owned(),
    };
    let message = format!("Authentication Error, Virtual key expected. Received={shown}, expected to start with 'sk-'.");
    refused("auth_error", None, message)
}
