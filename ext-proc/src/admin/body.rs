//! JSON bodies and query strings, read field by field so that an error names the field.

use attache_llm::error::ApiError;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use serde_json::{Map, Value};

use super::MAX_BODY;

/// The fields of a JSON object; each is taken once, what is left is unknown.
#[derive(Debug, Clone)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// Reads a body.
    ///
    /// # Errors
    /// 413 beyond the limit, 400 for anything but a JSON object (naming line and column).
    pub(super) fn parse(body: Result<Bytes, BytesRejection>) -> Result<Self, ApiError> {
        let bytes = body.map_err(|rejection| {
            if rejection.status() == 413 {
                ApiError::body_too_large(MAX_BODY as u64)
            } else {
                ApiError::invalid_request("The request body could not be read.", None)
                    .with_internal(rejection.body_text())
            }
        })?;
        // Management clients send an empty body for "all defaults".
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self(Map::new()));
        }
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(map)) => Ok(Self(map)),
            Ok(other) => {
                let message = format!("The request body must be a JSON object, not {}.", name_of(&other));
                Err(ApiError::invalid_request(message, Some("request_body")))
            }
            Err(error) => {
                let message = format!("Invalid JSON payload: {error}");
                Err(ApiError::invalid_request(message, Some("request_body")))
            }
        }
    }

    /// The fields of an object that is a part of a body.
    pub(super) fn of(map: Map<String, Value>) -> Self {
        Self(map)
    }

    /// Is the field there, be it null?
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Sets a field that is not there.
    pub(super) fn default(&mut self, name: &str, value: &Value) {
        if self.0.get(name).is_none_or(Value::is_null) {
            self.0.insert(name.to_owned(), value.clone());
        }
    }

    /// Has everything been taken?
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Looks at a field.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// Takes a field; null is absent.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    /// A string, trimmed of nothing; empty is absent.
    pub(super) fn text(&mut self, name: &'static str, longest: usize) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.len() > longest => {
                Err(refused(name, &format!("may have {longest} bytes at most")))
            }
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) if text.contains('\0') => Err(refused(name, "may not contain NUL")),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(name, "a string", &other)),
        }
    }

    pub(super) fn flag(&mut self, name: &'static str) -> Result<Option<bool>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong_type(name, "a boolean", &other)),
        }
    }

    /// A whole number from 0.
    pub(super) fn count(&mut self, name: &'static str) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        if let Some(number) = value.as_i64() {
            return if number >= 0 { Ok(Some(number)) } else { Err(refused(name, "must be 0 or more")) };
        }
        Err(wrong_type(name, "a whole number", &value))
    }

    /// Dollars, as nano-dollars.
    pub(super) fn dollars(&mut self, name: &'static str) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let Value::Number(number) = &value else {
            return Err(wrong_type(name, "a number (dollars)", &value));
        };
        match super::money::nanos(number) {
            Some(nanos) if nanos >= 0 => Ok(Some(nanos)),
            _ => Err(refused(name, "must be dollars between 0 and 9000000000")),
        }
    }

    /// A list of strings.
    pub(super) fn texts(&mut self, name: &'static str, most: usize) -> Result<Option<Vec<String>>, ApiError> {
        let list = match self.take(name) {
            None => return Ok(None),
            Some(Value::Array(list)) => list,
            Some(other) => return Err(wrong_type(name, "a list of strings", &other)),
        };
        if list.len() > most {
            return Err(refused(name, &format!("may have {most} entries at most")));
        }
        let text = |value: Value| match value {
            Value::String(text) if text.contains('\0') => Err(refused(name, "may not contain NUL")),
            Value::String(text) => Ok(text),
            other => Err(wrong_type(name, "a list of strings", &other)),
        };
        list.into_iter().map(text).collect::<Result<_, _>>().map(Some)
    }

    /// A list of objects, or one object.
    pub(super) fn objects(&mut self, name: &'static str, most: usize) -> Result<Option<Vec<Self>>, ApiError> {
        let list = match self.take(name) {
            None => return Ok(None),
            Some(Value::Array(list)) => list,
            Some(one @ Value::Object(_)) => vec![one],
            Some(other) => return Err(wrong_type(name, "a list of objects", &other)),
        };
        if list.len() > most {
            return Err(refused(name, &format!("may have {most} entries at most")));
        }
        let object = |value: Value| match value {
            Value::Object(map) => Ok(Self(map)),
            other => Err(wrong_type(name, "a list of objects", &other)),
        };
        list.into_iter().map(object).collect::<Result<_, _>>().map(Some)
    }

    pub(super) fn object(&mut self, name: &'static str) -> Result<Option<Map<String, Value>>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(other) => Err(wrong_type(name, "an object", &other)),
        }
    }

    /// What nobody took, nulls included.
    pub(super) fn rest(self) -> impl Iterator<Item = (String, Value)> {
        self.0.into_iter()
    }
}

/// 400: the value of a field makes no sense.
pub(super) fn refused(name: &'static str, why: &str) -> ApiError {
    ApiError::invalid_request(format!("`{name}` {why}."), Some(name))
}

/// 422 as LiteLLM answers: the field has another type.
pub(super) fn wrong_type(name: &'static str, wanted: &str, got: &Value) -> ApiError {
    let message = format!("`{name}` must be {wanted}, not {}.", name_of(got));
    let mut error = ApiError::invalid_request(message, Some(name));
    error.status = 422;
    error
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
