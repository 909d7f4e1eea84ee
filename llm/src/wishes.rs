//! What a caller asks of the gateway for one request: bounds and readings that body and headers share, and the headers.

use crate::contract::Wishes;
use crate::error::ApiError;

/// Most fallback groups in one request.
pub const MAX_FALLBACKS: usize = 16;
/// Most tags of one request, from body and headers together.
pub const MAX_TAGS: usize = 32;
/// Longest group name, tag, session or region, bytes.
pub const MAX_TEXT: usize = 256;
/// Longest timeout, seconds: a day. What is longer is no limit but a mistake (milliseconds for seconds).
const MAX_SECONDS: f64 = 86_400.0;

const TIMEOUT: &str = "x-litellm-timeout";
const STREAM_TIMEOUT: &str = "x-litellm-stream-timeout";
const NUM_RETRIES: &str = "x-litellm-num-retries";
const TAGS: &str = "x-litellm-tags";
const SESSION: &str = "x-litellm-session-id";
const DISABLE_FALLBACKS: &str = "x-litellm-disable-fallbacks";

/// Every header that [`from_headers`] reads, in lower case.
pub const HEADERS: [&str; 6] = [TIMEOUT, STREAM_TIMEOUT, NUM_RETRIES, TAGS, SESSION, DISABLE_FALLBACKS];

/// Headers that name the end user, in LiteLLM's order, before those of the configuration.
pub const END_USER_HEADERS: [&str; 2] = ["x-litellm-customer-id", "x-litellm-end-user-id"];
/// Longest name of an end user, bytes.
pub const MAX_USER: usize = 1024;

/// The end user that a header names.
///
/// # Errors
/// 400 naming the header when it is too long or has control characters.
pub fn end_user(header: &str, value: &str) -> Result<String, ApiError> {
    let what = if value.len() > MAX_USER {
        format!("longer than {MAX_USER} bytes")
    } else if value.chars().any(char::is_control) {
        CONTROL.to_owned()
    } else {
        return Ok(value.to_owned());
    };
    Err(ApiError::invalid_request(format!("Invalid value for header '{header}': {what}."), None)
        .with_param(header.to_owned()))
}

/// What is wrong with text that databases and logs may not carry.
pub(crate) const CONTROL: &str = "has a control character";

/// Adds what the headers ask for to what the body asked for. `header` finds a header's value by its lower-case name.
///
/// A header wins over the body; only tags are joined, each once. A header without a value says nothing.
///
/// # Errors
/// 400 naming the header whose value cannot be understood or is out of bounds. `wishes` may then be half changed.
pub fn from_headers<'a>(
    header: impl Fn(&str) -> Option<&'a str>,
    wishes: &mut Wishes,
) -> Result<(), ApiError> {
    let find = |name: &'static str| header(name).map(str::trim).filter(|value| !value.is_empty());
    if let Some(value) = find(TIMEOUT) {
        wishes.timeout_ms = Some(milliseconds(value).map_err(|what| refused(TIMEOUT, what))?);
    }
    if let Some(value) = find(STREAM_TIMEOUT) {
        wishes.stream_timeout_ms = Some(milliseconds(value).map_err(|what| refused(STREAM_TIMEOUT, what))?);
    }
    if let Some(value) = find(NUM_RETRIES) {
        // `parse` would also take a plus sign.
        let digits = value.bytes().all(|byte| byte.is_ascii_digit());
        let number = value.parse().ok().filter(|_| digits);
        wishes.num_retries = Some(number.ok_or_else(|| refused(NUM_RETRIES, "must be a whole number"))?);
    }
    for tag in find(TAGS).unwrap_or_default().split(',') {
        add_tag(&mut wishes.tags, tag.trim()).map_err(|what| refused(TAGS, &what))?;
    }
    if let Some(value) = find(SESSION) {
        if value.len() > MAX_TEXT {
            return Err(refused(SESSION, &too_long()));
        }
        if value.chars().any(char::is_control) {
            return Err(refused(SESSION, CONTROL));
        }
        wishes.session = Some(value.to_owned());
    }
    if let Some(value) = find(DISABLE_FALLBACKS) {
        wishes.disable_fallbacks = match value {
            _ if value.eq_ignore_ascii_case("true") => true,
            _ if value.eq_ignore_ascii_case("false") => false,
            _ => return Err(refused(DISABLE_FALLBACKS, "must be true or false")),
        };
    }
    Ok(())
}

fn refused(header: &'static str, what: &str) -> ApiError {
    ApiError::invalid_request(format!("Invalid value for header '{header}': {what}."), Some(header))
}

pub(crate) fn too_long() -> String {
    format!("longer than {MAX_TEXT} bytes")
}

/// A number of seconds, as written, in milliseconds: at least 1, rounded up.
pub(crate) fn milliseconds(text: &str) -> Result<u64, &'static str> {
    let number = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    match text.parse::<f64>() {
        Ok(seconds) if number && seconds > MAX_SECONDS => Err("more than a day"),
        // At most 86,400,000, so that the text is a whole number of few digits.
        Ok(seconds) if number && seconds > 0.0 => {
            format!("{:.0}", (seconds * 1_000.0).ceil()).parse().map_err(|_| "must be a number of seconds")
        }
        Ok(_) if number => Err("must be more than 0 seconds"),
        _ => Err("must be a number of seconds"),
    }
}

/// Adds a tag that is not there yet. Empty ones are left out.
pub(crate) fn add_tag(tags: &mut Vec<String>, tag: &str) -> Result<(), String> {
    if tag.len() > MAX_TEXT {
        return Err(too_long());
    }
    if tag.chars().any(char::is_control) {
        return Err(CONTROL.to_owned());
    }
    if tag.is_empty() || tags.iter().any(|known| known == tag) {
        return Ok(());
    }
    if tags.len() >= MAX_TAGS {
        return Err(format!("more than {MAX_TAGS} tags"));
    }
    tags.push(tag.to_owned());
    Ok(())
}

#[cfg(test)]
#[path = "wishes_tests.rs"]
mod tests;
