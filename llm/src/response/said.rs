//! What an error answer says, in the documents of the providers that do not write OpenAI's.
//!
//! | provider | document |
//! |---|---|
//! | Anthropic | `{"type":"error","error":{"type","message"},"request_id"}` |
//! | Google | `{"error":{"code":400,"message","status":"INVALID_ARGUMENT","details":[...]}}`, in an array for streams |
//! | AWS | `{"message"}`, its name in `x-amzn-errortype` or `__type` |

use serde_json::{Value, json};

use super::classify;
use super::classify::is_refusal;
use super::upstream_error::{MAX_VERBATIM, bounded, openai_shaped, plain, status_of};
use crate::class::ErrorClass;
use crate::error::{envelope, kind_of_status};

/// An error, taken apart.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Bounded.
    pub(super) message: String,
    pub(super) kind: Option<String>,
    pub(super) code: Option<String>,
    param: Option<String>,
    /// Google's numeric code.
    number: Option<String>,
    /// It has the shape of a provider of the table above.
    foreign: bool,
}

impl Said {
    pub(super) fn read(document: &[u8]) -> Self {
        let start = document.get(..document.len().min(MAX_VERBATIM)).unwrap_or_default();
        let value = serde_json::from_slice::<Value>(start).unwrap_or(Value::Null);
        let value = value.get(0).unwrap_or(&value);
        let error = value.get("error").filter(|error| !error.is_null()).unwrap_or(value);
        let word =
            |value: &Value, name: &str| value.get(name).and_then(plain).filter(|word| !word.is_empty());
        let texts = ["message", "Message", "detail"];
        let message = plain(error)
            .or_else(|| texts.iter().find_map(|name| word(error, name)))
            .or_else(|| texts.iter().find_map(|name| word(value, name)))
            .unwrap_or_else(|| String::from_utf8_lossy(start).into_owned());
        let mut said = Self {
            message: bounded(&message),
            kind: word(error, "type"),
            code: word(error, "code"),
            param: word(error, "param"),
            ..Self::default()
        };
        let google = error.get("status").and_then(Value::as_str).filter(|_| said.kind.is_none());
        if let Some(status) = google.filter(|status| is_google(status)) {
            (said.number, said.foreign) = (said.code.take(), true);
            said.code = Some(bounded(status));
            said.param = said.param.or_else(|| violation(error));
        } else if let Some(name) = word(value, "__type") {
            said.code = Some(aws_name(&name).to_owned());
            said.foreign = true;
        } else {
            let anthropic = value.get("type").and_then(Value::as_str) == Some("error");
            said.foreign = anthropic || (error.get("error").is_none() && is_bare(value));
        }
        said
    }

    /// HTTP status for an error that came inside HTTP 200.
    pub(super) fn status(&self) -> u16 {
        status_of(self.number.as_deref(), None)
            .or_else(|| status_of(self.code.as_deref(), self.kind.as_deref()))
            .unwrap_or_else(|| if is_refusal(&self.message) { 400 } else { 502 })
    }
}

/// The body of an upstream's error answer, fit for the client: verbatim when it already has OpenAI's shape (secrets
/// masked), else its message or text in OpenAI's envelope, bounded. Where the provider has no code for what OpenAI has one,
/// that one is given.
#[must_use]
pub fn error_body(status: u16, body: &[u8]) -> Vec<u8> {
    let said = Said::read(body);
    if !said.foreign
        && let Some(verbatim) = openai_shaped(body)
    {
        return verbatim;
    }
    let message = match said.message {
        empty if empty.is_empty() => format!("The upstream answered with status {status} and no message."),
        message => message,
    };
    let class = if said.foreign { classify(status, body) } else { ErrorClass::BadRequest };
    let code = match class {
        ErrorClass::ContextWindow => "context_length_exceeded".to_owned(),
        ErrorClass::ContentPolicy => "content_policy_violation".to_owned(),
        _ => said.code.unwrap_or_else(|| status.to_string()),
    };
    let kind = said.kind.unwrap_or_else(|| kind_of_status(status).to_owned());
    // Anthropic's `request_id` has no place there; it comes in a header too, which passes.
    envelope(&message, &kind, said.param.as_deref(), Some(&code))
}

/// An AWS error body with its name in it, which came in the header `x-amzn-errortype`.
#[must_use]
pub fn with_error_type(body: &[u8], error_type: &str) -> Vec<u8> {
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(members)) if !members.contains_key("__type") => {
            with_member(body, "__type", aws_name(error_type))
        }
        // A proxy's page, or nothing.
        Err(_) if body.trim_ascii().is_empty() => {
            let name = aws_name(error_type);
            json!({ "__type": name, "message": format!("The upstream failed with {name}.") })
                .to_string()
                .into_bytes()
        }
        _ => body.to_vec(),
    }
}

fn with_member(object: &[u8], name: &str, value: &str) -> Vec<u8> {
    match serde_json::from_slice::<Value>(object) {
        Ok(Value::Object(mut members)) => {
            members.insert(name.to_owned(), bounded(value).into());
            Value::Object(members).to_string().into_bytes()
        }
        _ => object.to_vec(),
    }
}

/// `ValidationException` of `com.amazonaws...#ValidationException:http://...`.
fn aws_name(error_type: &str) -> &str {
    let name = error_type.rsplit('#').next().unwrap_or_default();
    name.split(':').next().unwrap_or_default().trim()
}

/// Nothing but a message: AWS.
fn is_bare(value: &Value) -> bool {
    let named = |name: &String| matches!(name.as_str(), "message" | "Message");
    value.as_object().is_some_and(|members| members.len() == 1 && members.keys().all(named))
}

/// `INVALID_ARGUMENT`, and not OpenAI's `incomplete`.
fn is_google(status: &str) -> bool {
    !status.is_empty() && status.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// The first field that Google names.
fn violation(error: &Value) -> Option<String> {
    let details = error.get("details")?.as_array()?;
    let fields = details.iter().filter_map(|detail| detail.pointer("/fieldViolations/0/field")?.as_str());
    fields.map(bounded).find(|field| !field.is_empty())
}

#[cfg(test)]
#[path = "said_tests.rs"]
mod tests;
