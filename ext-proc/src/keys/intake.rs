//! Reading the key from a request's headers, in every place the SDKs put it.

use attache_llm::error::ApiError;
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
            Some(value) => Some(bearer(value).ok_or_else(ApiError::malformed_key)?),
            None => HEADERS.iter().find_map(|name| text(name)).map(|value| bearer(value).unwrap_or(value)),
        },
    };
    let key = found.filter(|key| !key.is_empty()).ok_or_else(ApiError::missing_key)?;
    if key.starts_with("sk-") { Ok(key) } else { Err(ApiError::malformed_key()) }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, rest) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim())
}
