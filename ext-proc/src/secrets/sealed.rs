use serde_json::{Map, Value};

use super::cipher::{DecryptError, SaltKey, looks_encrypted};
use crate::config::Secret;

/// Deepest nesting of a credential's values.
const MAX_DEPTH: u8 = 16;

/// Which value could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {why}")]
pub struct OpenError {
    /// Name of the value, as `api_key`.
    pub name: String,
    pub why: DecryptError,
}

/// Encrypts every text of a map, as LiteLLM stores `litellm_params` and `credential_values`. Other values stay.
#[must_use]
pub fn seal(plain: &Map<String, Value>, salt: &SaltKey) -> Map<String, Value> {
    plain.iter().map(|(name, value)| (name.clone(), seal_value(value, salt, MAX_DEPTH))).collect()
}

fn seal_value(value: &Value, salt: &SaltKey, depth: u8) -> Value {
    let Some(below) = depth.checked_sub(1) else { return Value::Null };
    match value {
        Value::String(text) => Value::String(salt.encrypt(text)),
        Value::Array(list) => list.iter().map(|value| seal_value(value, salt, below)).collect(),
        Value::Object(map) => {
            let sealed = map.iter().map(|(name, value)| (name.clone(), seal_value(value, salt, below)));
            Value::Object(sealed.collect())
        }
        other => other.clone(),
    }
}

/// Decrypts a map of LiteLLM's or ours. A value that cannot be encrypted by its form is taken as it is, and so is one
/// that only looks like the old form when another value of the map was decrypted: the key is right then.
///
/// # Errors
/// The first value that is encrypted and cannot be read.
pub fn open(sealed: &Map<String, Value>, salt: &SaltKey) -> Result<Map<String, Value>, OpenError> {
    let mut opening = Opening { salt, decrypted: false, doubtful: None };
    let plain = sealed
        .iter()
        .map(|(name, value)| Ok((name.clone(), opening.value(name, value, MAX_DEPTH)?)))
        .collect::<Result<_, OpenError>>()?;
    match opening.doubtful {
        Some(error) if !opening.decrypted => Err(error),
        _ => Ok(plain),
    }
}

struct Opening<'a> {
    salt: &'a SaltKey,
    decrypted: bool,
    doubtful: Option<OpenError>,
}

impl Opening<'_> {
    fn value(&mut self, name: &str, value: &Value, depth: u8) -> Result<Value, OpenError> {
        let Some(below) = depth.checked_sub(1) else { return Ok(Value::Null) };
        Ok(match value {
            Value::String(text) => Value::String(self.text(name, text)?.expose().to_owned()),
            Value::Array(list) => {
                list.iter().map(|value| self.value(name, value, below)).collect::<Result<_, _>>()?
            }
            Value::Object(map) => {
                let plain =
                    map.iter().map(|(name, value)| Ok((name.clone(), self.value(name, value, below)?)));
                Value::Object(plain.collect::<Result<_, OpenError>>()?)
            }
            other => other.clone(),
        })
    }

    fn text(&mut self, name: &str, text: &str) -> Result<Secret, OpenError> {
        let error = match self.salt.decrypt(text) {
            Ok(plain) => {
                self.decrypted = true;
                return Ok(plain);
            }
            Err(why) => OpenError { name: name.to_owned(), why },
        };
        if text.contains(":gcm:") && looks_encrypted(text) || error.why == DecryptError::NotText {
            return Err(error);
        }
        if looks_encrypted(text) {
            self.doubtful.get_or_insert(error);
        }
        Ok(Secret::new(text))
    }
}

/// Decrypts with one key and encrypts with another.
///
/// # Errors
/// As [`open`].
pub fn reseal(
    sealed: &Map<String, Value>,
    from: &SaltKey,
    to: &SaltKey,
) -> Result<Map<String, Value>, OpenError> {
    open(sealed, from).map(|plain| seal(&plain, to))
}
