//! `/key/generate`: from the request's fields to a key.

use attache_llm::error::ApiError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::body::{Fields, refused};
use super::when;
use crate::config::Secret;
use crate::keys;
use crate::store::NewKey;

/// LiteLLM's own minimum for keys that the caller chooses.
const SHORTEST_KEY: usize = 16;
const LONGEST_KEY: usize = 256;
/// Bound of ids and aliases, bytes.
const LONGEST_NAME: usize = 256;
const MOST_MODELS: usize = 1_000;
/// Bound of the metadata, bytes of JSON.
const LONGEST_METADATA: usize = 64 * 1024;

/// A key that is about to be inserted, with the plain key that only this answer shows.
pub(super) struct Draft {
    pub plain: Secret,
    pub key: NewKey,
    pub blocked: bool,
    /// Fields that are kept but have no effect yet.
    pub idle: Vec<String>,
}

/// Reads the request.
///
/// # Errors
/// 400 or 422 naming the field.
pub(super) fn draft(mut fields: Fields, created_by: &str, now_ms: u64) -> Result<Draft, ApiError> {
    let plain = plain_key(&mut fields)?;
    let expires_ms = match fields.text("duration", 32)? {
        None => None,
        Some(duration) => Some(when::expiry(&duration, now_ms).ok_or_else(|| {
            refused("duration", "must be a number and a unit, like 30s, 30m, 12h, 30d, 2w or 1mo")
        })?),
    };
    let blocked = fields.flag("blocked")?.unwrap_or(false);
    let mut key = NewKey {
        hash: keys::hash(plain.expose()),
        name: keys::mask(plain.expose()),
        alias: fields.text("key_alias", LONGEST_NAME)?,
        models: models(&mut fields)?,
        user_id: fields.text("user_id", LONGEST_NAME)?,
        team_id: fields.text("team_id", LONGEST_NAME)?,
        expires_ms,
        metadata: Value::Null,
        max_budget_nanos: fields.dollars("max_budget")?,
        rpm_limit: fields.count("rpm_limit")?,
        tpm_limit: fields.count("tpm_limit")?,
        created_by: Some(created_by.to_owned()),
    };
    let mut metadata = fields.object("metadata")?.unwrap_or_default();
    let idle = keep_rest(fields, &mut metadata);
    key.metadata = Value::Object(metadata);
    if key.metadata.to_string().len() > LONGEST_METADATA {
        return Err(refused("metadata", "(with all further fields) may have 64 KiB of JSON at most"));
    }
    Ok(Draft { plain, key, blocked, idle })
}

/// The caller's own key, or 16 random bytes as LiteLLM writes them.
fn plain_key(fields: &mut Fields) -> Result<Secret, ApiError> {
    let Some(key) = fields.text("key", LONGEST_KEY)? else {
        return Ok(Secret::new(format!("sk-{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>()))));
    };
    if !key.starts_with("sk-") {
        return Err(refused("key", "must start with sk-"));
    }
    if key.len() < SHORTEST_KEY {
        return Err(refused("key", "must have 16 characters or more"));
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refused("key", "must be printable ASCII without spaces"));
    }
    Ok(Secret::new(key))
}

fn models(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    let models = fields.texts("models", MOST_MODELS)?.unwrap_or_default();
    if models.iter().any(|model| model.is_empty() || model.len() > LONGEST_NAME) {
        return Err(refused("models", "may not hold an empty or an over-long name"));
    }
    Ok(models)
}

/// Keeps the fields of LiteLLM that have no effect yet under their own name, for the day they have one. Returns
/// their names. `max_budget` and limits are stored whether enforced or not.
fn keep_rest(fields: Fields, metadata: &mut Map<String, Value>) -> Vec<String> {
    let mut idle = Vec::new();
    for (name, value) in fields.rest() {
        // Empty values ask for nothing.
        let empty = match &value {
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Bool(flag) => !flag,
            Value::String(text) => text.is_empty(),
            _ => false,
        };
        if !empty && name != "key_type" && name != "send_invite_email" {
            metadata.entry(name.clone()).or_insert(value);
            idle.push(name);
        }
    }
    idle
}
