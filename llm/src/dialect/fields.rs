//! Members of a request body, taken one by one; what is wrong with them is said by their whole name
//! (`messages[2].content[0].image_url`), which is put together only then, on the way out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::error::ApiError;

/// What is wrong with a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Name of the member, from where it was found; outer names come in front ([`Self::within`], [`Self::item`]).
    field: String,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Missing,
    /// It should have been this.
    Expected(&'static str),
    /// In these words.
    Says(String),
}

impl Fault {
    /// The value itself should have been something else: `a string`, `an array of objects`, ...
    pub(crate) fn expected(what: &'static str) -> Self {
        Self { field: String::new(), what: What::Expected(what) }
    }

    pub(crate) fn missing(field: &str) -> Self {
        Self { field: field.to_owned(), what: What::Missing }
    }

    /// The value itself is wrong, in words that end a sentence about it: `is not supported`.
    pub(crate) fn says(what: impl Into<String>) -> Self {
        Self { field: String::new(), what: What::Says(what.into()) }
    }

    /// The value with the fault is this member's, or in it.
    #[must_use]
    pub(crate) fn within(mut self, member: &str) -> Self {
        self.field = match self.field.as_str() {
            "" => member.to_owned(),
            inner if inner.starts_with('[') => format!("{member}{inner}"),
            inner => format!("{member}.{inner}"),
        };
        self
    }

    /// The value with the fault is this element of an array, or in it.
    #[must_use]
    pub(crate) fn item(mut self, index: usize) -> Self {
        let inner = std::mem::take(&mut self.field);
        self.field = match inner.as_str() {
            "" => format!("[{index}]"),
            inner if inner.starts_with('[') => format!("[{index}]{inner}"),
            inner => format!("[{index}].{inner}"),
        };
        self
    }
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        let Fault { field, what } = fault;
        if field.is_empty() {
            let message = match what {
                What::Says(text) => format!("The request body {text}."),
                _ => "The request body must be a JSON object.".to_owned(),
            };
            return Self::invalid_request(message, None);
        }
        let message = match what {
            What::Missing => format!("Missing required parameter: '{field}'."),
            What::Expected(what) => format!("Invalid value for '{field}': expected {what}."),
            What::Says(text) => format!("Invalid value: '{field}' {text}."),
        };
        Self::invalid_request(message, None).with_param(field)
    }
}

/// An object whose members are taken out; null counts as not there.
#[derive(Debug, Default)]
pub(crate) struct Object(Map<String, Value>);

impl Object {
    /// The object that a body is.
    ///
    /// # Errors
    /// 400: it is none.
    pub(crate) fn of_body(body: &[u8]) -> Result<Self, ApiError> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => Ok(Self(members)),
            Ok(_) => Err(Fault::expected("a JSON object").into()),
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                Err(Fault::says(format!("is not valid JSON (line {line}, column {column})")).into())
            }
        }
    }

    pub(crate) fn of(value: Value) -> Result<Self, Fault> {
        match value {
            Value::Object(members) => Ok(Self(members)),
            _ => Err(Fault::expected("an object")),
        }
    }

    /// What was not taken, nulls left out.
    pub(crate) fn rest(self) -> Map<String, Value> {
        self.0.into_iter().filter(|(_, value)| !value.is_null()).collect()
    }

    /// Everything, as it was.
    pub(crate) fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !value.is_null())
    }

    /// A string member, left where it is; empty when it is none.
    pub(crate) fn peek(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// A member as it is, left where it is.
    pub(crate) fn copy(&self, name: &str) -> Option<Value> {
        self.0.get(name).filter(|value| !value.is_null()).cloned()
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.shift_remove(name).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &mut self,
        name: &str,
        what: &'static str,
        read: impl FnOnce(Value) -> Option<T>,
    ) -> Result<Option<T>, Fault> {
        let Some(value) = self.take(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| Fault::expected(what).within(name))
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, Fault> {
        self.typed(name, "a string", text)
    }

    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>, Fault> {
        self.typed(name, "a boolean", |value| value.as_bool())
    }

    pub(crate) fn number(&mut self, name: &str) -> Result<Option<f64>, Fault> {
        self.typed(name, "a number", |value| value.as_f64())
    }

    /// A whole number that is not negative; `1024.0` is one.
    pub(crate) fn count(&mut self, name: &str) -> Result<Option<u64>, Fault> {
        self.typed(name, "an integer that is not negative", |value| count(&value))
    }

    pub(crate) fn integer(&mut self, name: &str) -> Result<Option<i64>, Fault> {
        let read = |value: Value| value.as_i64().or_else(|| i64::try_from(count(&value)?).ok());
        self.typed(name, "an integer", read)
    }

    pub(crate) fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, Fault> {
        self.typed(name, "an array", |value| match value {
            Value::Array(items) => Some(items),
            _ => None,
        })
    }

    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Self>, Fault> {
        self.typed(name, "an object", |value| Self::of(value).ok())
    }

    /// A member that must be there.
    pub(crate) fn need_text(&mut self, name: &str) -> Result<String, Fault> {
        self.text(name)?.ok_or_else(|| Fault::missing(name))
    }

    pub(crate) fn need_object(&mut self, name: &str) -> Result<Self, Fault> {
        self.object(name)?.ok_or_else(|| Fault::missing(name))
    }

    pub(crate) fn need_list(&mut self, name: &str) -> Result<Vec<Value>, Fault> {
        self.list(name)?.ok_or_else(|| Fault::missing(name))
    }
}

pub(crate) fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn count(value: &Value) -> Option<u64> {
    /// The largest integer below which floats have them all.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, and in bounds")]
    let whole =
        |number: f64| (number.fract() == 0.0 && (0.0..=EXACT).contains(&number)).then_some(number as u64);
    value.as_u64().or_else(|| value.as_f64().and_then(whole))
}

/// Reads every element of an array that is the member `name`.
pub(crate) fn each<T>(
    name: &str,
    items: Vec<Value>,
    mut read: impl FnMut(Value) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let one = |(index, item)| read(item).map_err(|fault: Fault| fault.item(index).within(name));
    items.into_iter().enumerate().map(one).collect()
}

/// Words of a file that came as data; `None`: it is no text (a PDF, ...).
///
/// # Errors
/// 400: it is said to be text, and is not.
pub(crate) fn file_text(media_type: &str, data: &str) -> Result<Option<String>, ApiError> {
    if !media_type.starts_with("text/") && !media_type.starts_with("application/json") {
        return Ok(None);
    }
    let text = STANDARD.decode(data.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.map(Some).ok_or_else(|| {
        let message = format!("A file of the type {media_type} is not base64 of UTF-8 text.");
        ApiError::invalid_request(message, Some("messages"))
    })
}

/// Adds a member to a value that is an object.
pub(crate) fn set(object: &mut Value, name: &str, value: impl Into<Value>) {
    if let Some(members) = object.as_object_mut() {
        members.insert(name.to_owned(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_name_the_whole_way() {
        let fault = Fault::expected("a string").within("url").within("image_url").item(0).within("content");
        let error: ApiError = fault.item(2).within("messages").into();
        assert_eq!(error.param.as_deref(), Some("messages[2].content[0].image_url.url"));
        assert_eq!(
            error.message,
            "Invalid value for 'messages[2].content[0].image_url.url': expected a string."
        );
    }

    #[test]
    fn numbers_in_whatever_form() {
        let mut object = Object::of(serde_json::json!({"a": 5.0, "b": -1, "c": 1.5, "d": null})).unwrap();
        assert_eq!(object.count("a").unwrap(), Some(5));
        assert_eq!(object.integer("b").unwrap(), Some(-1));
        assert!(object.count("c").is_err());
        assert_eq!(object.count("d").unwrap(), None);
    }

    #[test]
    fn bodies_that_are_no_objects() {
        for body in [&b"[]"[..], b"", b"{\"a\":", b"\"text\""] {
            let error = Object::of_body(body).unwrap_err();
            assert_eq!((error.status, error.param), (400, None));
        }
    }
}
