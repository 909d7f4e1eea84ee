//! Models and credentials of LiteLLM's database, decrypted with its salt key and encrypted with ours.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::merge::Wanted;
use super::people::rest;
use super::row::{Found, Row, error};
use crate::entity::{Entity, EntityKind};
use crate::secrets::{self, SaltKey};

/// The keys on both sides; `to` is none in a dry run without any.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    pub(super) from: Option<SaltKey>,
    pub(super) to: Option<SaltKey>,
}

pub(super) fn model(row: &Row, keys: &Keys) -> Found<Wanted> {
    let mut entity = Entity::new(EntityKind::Model, row.id("model_id")?);
    entity.alias = Some(row.id("model_name")?);
    entity.blocked = row.flag("blocked")?;
    entity.created_by = row.text("created_by")?;
    rest(row, &mut entity.settings, &["model_info"])?;
    sealed(row, "litellm_params", entity, keys)
}

pub(super) fn credential(row: &Row, keys: &Keys) -> Found<Wanted> {
    let name = row.id("credential_name")?;
    if name == secrets::CANARY {
        return Err(error("credential_name", "it is reserved"));
    }
    let mut entity = Entity::new(EntityKind::Credential, name);
    entity.created_by = row.text("created_by")?;
    rest(row, &mut entity.settings, &["credential_info", "display_name"])?;
    sealed(row, "credential_values", entity, keys)
}

/// The values of one column, decrypted.
pub(super) fn opened(row: &Row, column: &str, keys: &Keys) -> Found<Map<String, Value>> {
    let values = row.object(column)?;
    let Some(from) = &keys.from else { return Err(error(column, "no salt key of LiteLLM is given")) };
    secrets::open(&values, from).map_err(|failed| {
        let why = match failed.why {
            secrets::DecryptError::NotText => "it holds a value that is no text",
            _ => "LiteLLM's salt key does not decrypt it",
        };
        error(&format!("{column}.{}", failed.name), why)
    })
}

fn sealed(row: &Row, column: &str, mut entity: Entity, keys: &Keys) -> Found<Wanted> {
    let plain = opened(row, column, keys)?;
    // The row as LiteLLM has it, ciphertext included: it changes when somebody changes it there, and only then.
    let mut source = entity.clone();
    source.settings.rest.insert(column.to_owned(), Value::Object(row.object(column)?));
    let fingerprint = format!("{:x}", Sha256::digest(Wanted::new(source, 0).fingerprint));
    if let Some(to) = &keys.to {
        entity.settings.rest.insert(column.to_owned(), Value::Object(secrets::seal(&plain, to)));
    }
    Ok(Wanted::new(entity, 0).with_fingerprint_of(&fingerprint))
}
