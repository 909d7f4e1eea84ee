use serde_json::{Map, Value, json};

use super::{ApiError, kind_of_status, mask_secrets};

/// Whose shape an error has on its way to the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ErrorShape {
    /// `{"error":{"message","type","param","code"}}`
    #[default]
    Openai,
    /// `{"type":"error","error":{"type","message"}}`, with OpenAI's other members kept in `error`.
    Anthropic,
}

impl ErrorShape {
    /// The body of an error with this status; `openai` has OpenAI's shape already (or is some provider's own words).
    #[must_use]
    pub fn render(self, status: u16, openai: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Openai => openai,
            Self::Anthropic => anthropic(status, &openai),
        }
    }

    /// A provider's error body for the client: as it came where it has this shape already, else what `openai` makes of it.
    #[must_use]
    pub fn pass(self, status: u16, body: &[u8], openai: impl FnOnce(u16, &[u8]) -> Vec<u8>) -> Vec<u8> {
        if self == Self::Anthropic && is_anthropic(&serde_json::from_slice(body).unwrap_or_default()) {
            return String::from_utf8(body.to_vec())
                .map(|text| mask_secrets(&text).into_bytes())
                .unwrap_or_default();
        }
        self.render(status, openai(status, body))
    }

    /// The `data` of an error event of a stream.
    #[must_use]
    pub fn of_error(self, error: &ApiError) -> Vec<u8> {
        self.render(error.status, error.to_json())
    }
}

/// Anthropic's `error.type` of a status (its API's documentation, "Errors").
#[must_use]
pub fn anthropic_kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        408 | 504 => "timeout_error",
        503 | 529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

fn is_anthropic(document: &Value) -> bool {
    document.get("type").and_then(Value::as_str) == Some("error")
        && document.pointer("/error/message").is_some_and(Value::is_string)
}

fn anthropic(status: u16, openai: &[u8]) -> Vec<u8> {
    let document = serde_json::from_slice::<Value>(openai).unwrap_or(Value::Null);
    if is_anthropic(&document) {
        return openai.to_vec();
    }
    let mut error = Map::new();
    error.insert("type".to_owned(), anthropic_kind(status).into());
    let message = document.pointer("/error/message").and_then(Value::as_str);
    let message = message.map_or_else(|| kind_of_status(status).to_owned(), str::to_owned);
    error.insert("message".to_owned(), message.into());
    for (name, value) in document.get("error").and_then(Value::as_object).into_iter().flatten() {
        if !value.is_null() && !error.contains_key(name) {
            error.insert(name.clone(), value.clone());
        }
    }
    json!({"type": "error", "error": error}).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anthropic_shape_keeps_what_openai_says() {
        let body = ErrorShape::Anthropic.of_error(&ApiError::invalid_request("No 'model'.", Some("model")));
        let value: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            value,
            json!({"type": "error", "error": {"type": "invalid_request_error", "message": "No 'model'.",
                "param": "model", "code": "400"}})
        );
    }

    #[test]
    fn status_says_the_type() {
        for (status, kind) in [(429, "rate_limit_error"), (503, "overloaded_error"), (500, "api_error")] {
            let body = ErrorShape::Anthropic.render(status, b"not JSON".to_vec());
            let value: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(value.pointer("/error/type").unwrap(), kind);
        }
    }

    #[test]
    fn anthropics_own_passes() {
        let own = br#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        assert_eq!(ErrorShape::Anthropic.render(529, own.to_vec()), own);
    }
}
