//! Entities as the tables have them, and as the audit log shows them.

use serde::Serialize;
use serde_json::{Map, Value, json};
use sqlx::FromRow;

use super::records::{MAX_TEXT, bounded, signed, unsigned};
use crate::entity::{Entity, EntityKind, EntityRef};

/// Bound of ids and aliases, bytes. They are indexed, at most two in one entry, of which Postgres takes 2,700 bytes.
pub(super) const MAX_NAME: usize = 1_024;
const MASK: &str = "***";

/// A row of `attache_entities`.
#[derive(Debug, Clone, FromRow, Serialize)]
pub(super) struct EntityRecord {
    pub(super) kind: String,
    pub(super) id: String,
    account: String,
    name: String,
    alias: Option<String>,
    team_id: Option<String>,
    user_id: Option<String>,
    organization_id: Option<String>,
    budget_id: Option<String>,
    role: Option<String>,
    email: Option<String>,
    successor: Option<String>,
    blocked: bool,
    expires_ms: Option<i64>,
    settings: String,
    spend_nanos: i64,
    spend_reset_ms: i64,
    created_ms: i64,
    updated_ms: i64,
    created_by: Option<String>,
    updated_by: Option<String>,
}

impl EntityRecord {
    /// As it is stored: without NUL, and bounded.
    ///
    /// # Errors
    /// The settings are no JSON.
    pub(super) fn new(entity: &Entity) -> serde_json::Result<Self> {
        let text = |text: &Option<String>| text.as_deref().map(name);
        let settings = &entity.settings;
        Ok(Self {
            kind: entity.kind.name().to_owned(),
            id: name(&entity.id),
            account: name(entity.account()),
            name: bounded(&entity.name, MAX_TEXT).into_owned(),
            alias: text(&entity.alias),
            team_id: text(&entity.team_id),
            user_id: text(&entity.user_id),
            organization_id: text(&entity.organization_id),
            budget_id: text(&entity.budget_id),
            role: text(&settings.role),
            email: text(&settings.email),
            successor: text(&settings.successor),
            blocked: entity.blocked,
            expires_ms: entity.expires_ms.map(signed),
            settings: serde_json::to_string(settings)?,
            spend_nanos: entity.spend_nanos,
            spend_reset_ms: signed(entity.spend_reset_ms),
            created_ms: signed(entity.created_ms),
            updated_ms: signed(entity.updated_ms),
            created_by: text(&entity.created_by),
            updated_by: text(&entity.updated_by),
        })
    }
}

impl TryFrom<EntityRecord> for Entity {
    /// What cannot be read.
    type Error = String;

    fn try_from(record: EntityRecord) -> Result<Self, Self::Error> {
        let kind = kind(&record.kind)?;
        let settings = serde_json::from_str(&record.settings)
            .map_err(|error| format!("settings of a {kind} in attache_entities: {error}"))?;
        Ok(Self {
            kind,
            id: record.id,
            name: record.name,
            alias: record.alias,
            team_id: record.team_id,
            user_id: record.user_id,
            organization_id: record.organization_id,
            budget_id: record.budget_id,
            blocked: record.blocked,
            expires_ms: record.expires_ms.map(unsigned),
            settings,
            spend_nanos: record.spend_nanos,
            spend_reset_ms: unsigned(record.spend_reset_ms),
            created_ms: unsigned(record.created_ms),
            updated_ms: unsigned(record.updated_ms),
            created_by: record.created_by,
            updated_by: record.updated_by,
        })
    }
}

/// Reads a kind's name.
pub(super) fn kind(name: &str) -> Result<EntityKind, String> {
    EntityKind::of_name(name).ok_or_else(|| format!("unknown kind `{name}`"))
}

/// An id or alias as it is stored and compared.
pub(super) fn name(text: &str) -> String {
    bounded(text, MAX_NAME).into_owned()
}

/// Names an entity in the parameters of a statement.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Named {
    pub(super) kind: &'static str,
    pub(super) id: String,
}

impl From<&EntityRef> for Named {
    fn from(of: &EntityRef) -> Self {
        Self { kind: of.kind.name(), id: name(&of.id) }
    }
}

/// The entity for the audit log, without secrets.
pub(super) fn audited(entity: &Entity) -> Value {
    let mut settings = serde_json::to_value(&entity.settings).unwrap_or_default();
    mask(&mut settings, entity.kind == EntityKind::Credential);
    json!({
        "kind": entity.kind,
        "id": entity.id,
        "name": entity.name,
        "alias": entity.alias,
        "team_id": entity.team_id,
        "user_id": entity.user_id,
        "organization_id": entity.organization_id,
        "budget_id": entity.budget_id,
        "blocked": entity.blocked,
        "expires_ms": entity.expires_ms,
        "settings": settings,
        "spend_nanos": entity.spend_nanos,
        "spend_reset_ms": entity.spend_reset_ms,
        "created_ms": entity.created_ms,
        "updated_ms": entity.updated_ms,
        "created_by": entity.created_by,
        "updated_by": entity.updated_by,
    })
}

/// Hides texts whose name says that they are secret, at any depth; of a credential, everything below its values.
fn mask(value: &mut Value, credential: bool) {
    let hide = |map: &mut Map<String, Value>| {
        for (name, value) in map.iter_mut() {
            match value {
                Value::String(text) if is_secret(name) && !text.is_empty() => MASK.clone_into(text),
                Value::Object(values) if credential && name == "credential_values" => {
                    values.values_mut().for_each(|value| *value = Value::from(MASK));
                }
                value => mask(value, credential),
            }
        }
    };
    match value {
        Value::Object(map) => hide(map),
        Value::Array(list) => list.iter_mut().for_each(|value| mask(value, credential)),
        _ => {}
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["secret", "password", "credential", "api_key", "private_key", "access_key"]
        .iter()
        .any(|part| name.contains(part))
        || name.ends_with("token")
        || name.ends_with("authorization")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_at_any_depth() {
        let mut entity = Entity::new(EntityKind::Model, "m");
        entity.settings.rest = serde_json::from_value(json!({
            "litellm_params": {"model": "openai/gpt-4o", "api_key": "v2:gcm:abc", "rpm": 5, "max_tokens": 7,
                "extra": [{"aws_secret_access_key": "x"}]},
        }))
        .unwrap();
        let shown = audited(&entity);
        let params = &shown["settings"]["litellm_params"];
        assert_eq!(
            *params,
            json!({"model": "openai/gpt-4o", "api_key": "***", "rpm": 5, "max_tokens": 7,
                "extra": [{"aws_secret_access_key": "***"}]})
        );
        let mut entity = Entity::new(EntityKind::Credential, "c");
        entity.settings.rest =
            serde_json::from_value(json!({"credential_values": {"plain": "v2:gcm:abc", "n": [1]}})).unwrap();
        assert_eq!(audited(&entity)["settings"]["credential_values"], json!({"plain": "***", "n": "***"}));
    }

    #[test]
    fn a_record_is_the_entity_again() {
        let mut entity = Entity::new(EntityKind::Key, "a\0b");
        entity.settings.account = Some("first".into());
        entity.settings.models = vec!["gpt\0".into()];
        entity.alias = Some("é".repeat(MAX_NAME));
        let record = EntityRecord::new(&entity).unwrap();
        assert_eq!((record.id.as_str(), record.account.as_str()), ("ab", "first"));
        let again = Entity::try_from(record).unwrap();
        assert_eq!(again.alias.unwrap().len(), MAX_NAME);
        assert_eq!(again.settings, entity.settings);
    }
}
