//! Models of the database, served beside those of the file (`general_settings.store_model_in_db`).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};
use tokio::time::{sleep, timeout};

use crate::config::{Config, Env, StoredModel};
use crate::entity::{Entity, EntityKind};
use crate::secrets::{self, CREDENTIAL_VALUES, LITELLM_PARAMS, Salt, SaltKey};
use crate::store::{Directory, Filter, Sort, StoreError, open_database};

/// Longest wait for the database: a start does not hang on it.
const PATIENCE: Duration = Duration::from_secs(10);
const PAGE: u32 = 200;
const KINDS: [EntityKind; 2] = [EntityKind::Model, EntityKind::Credential];

/// What was read, and the place in the feed of changes up to which it is known.
#[derive(Debug, Default)]
pub struct Stored {
    pub models: Vec<StoredModel>,
    /// `None`: the database is away.
    pub cursor: Option<u64>,
}

/// Reads the models, decrypted; nothing unless the configuration asks for them. Blocks.
///
/// # Errors
/// The database is away and that is not `tolerated`, or its credentials need another salt key.
pub fn stored_models(config: &Config, data_dir: &Path, env: &Env, tolerated: bool) -> anyhow::Result<Stored> {
    if !config.general_settings.store_model_in_db {
        return Ok(Stored::default());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let salt = Salt::of(config, env);
    let read = runtime.block_on(async {
        let reading = async {
            let database = open_database(&config.database(data_dir)).await?;
            read(&*database, salt.as_ref()).await
        };
        timeout(PATIENCE, reading).await.context("models of the database: no answer within 10 s")?
    });
    match read {
        Err(error) if tolerated && is_away(&error) => {
            tracing::warn!("models of the database follow when it answers: {error:#}");
            Ok(Stored::default())
        }
        read => read,
    }
}

fn is_away(error: &anyhow::Error) -> bool {
    error.is::<tokio::time::error::Elapsed>()
        || matches!(error.downcast_ref(), Some(StoreError::Unavailable { .. }))
        || matches!(error.downcast_ref(), Some(secrets::CheckError::Store(StoreError::Unavailable { .. })))
}

async fn read(directory: &dyn Directory, salt: Option<&Salt>) -> anyhow::Result<Stored> {
    // Before the models: what changes meanwhile is read again.
    let cursor = directory.changes(0).await?.cursor;
    secrets::check(directory, salt).await?;
    let mut stored = Stored { models: Vec::new(), cursor: Some(cursor) };
    let models = all(directory, EntityKind::Model).await?;
    let Some(salt) = salt.filter(|_| !models.is_empty()) else { return Ok(stored) };
    let mut credentials = BTreeMap::new();
    for credential in all(directory, EntityKind::Credential).await? {
        if let Ok(values) = opened(&credential, CREDENTIAL_VALUES, &salt.key) {
            credentials.insert(credential.id, values);
        }
    }
    for model in models {
        match entry(&model, &credentials, &salt.key) {
            Ok(entry) => stored.models.push(StoredModel { id: model.id, entry }),
            Err(why) => tracing::warn!("model {:?} of the database is not served: {why:#}", model.id),
        }
    }
    Ok(stored)
}

async fn all(directory: &dyn Directory, kind: EntityKind) -> Result<Vec<Entity>, StoreError> {
    let mut found = Vec::new();
    loop {
        let offset = found.len() as u64;
        let filter = Filter {
            kind: Some(kind),
            sort: Sort::Id,
            ascending: true,
            offset,
            limit: PAGE,
            ..Filter::default()
        };
        let page = directory.list(&filter).await?;
        if page.entities.is_empty() {
            return Ok(found);
        }
        found.extend(page.entities);
    }
}

fn opened(entity: &Entity, part: &str, salt: &SaltKey) -> anyhow::Result<Map<String, Value>> {
    let sealed = entity.settings.rest.get(part).and_then(Value::as_object);
    let sealed = sealed.with_context(|| format!("it has no {part}"))?;
    secrets::open(sealed, salt).with_context(|| part.to_owned())
}

/// The model as an entry of `model_list`.
fn entry(
    model: &Entity,
    credentials: &BTreeMap<String, Map<String, Value>>,
    salt: &SaltKey,
) -> anyhow::Result<Value> {
    let mut params = opened(model, LITELLM_PARAMS, salt)?;
    if let Some(missing) = secrets::put_credential(&mut params, credentials) {
        bail!("there is no readable credential {missing:?}");
    }
    params.retain(|_, value| !value.is_null());
    let mut info =
        model.settings.rest.get("model_info").and_then(Value::as_object).cloned().unwrap_or_default();
    info.retain(|name, value| !value.is_null() && name != "db_model");
    info.entry("id").or_insert_with(|| model.id.clone().into());
    let name = model.alias.as_deref().context("it has no name")?;
    Ok(json!({
        "model_name": name,
        "litellm_params": params,
        "model_info": info,
        "blocked": model.blocked,
    }))
}

/// Follows the feed of changes.
#[derive(Debug)]
pub(super) struct Follow {
    /// `None`: the models were never read.
    pub(super) cursor: Option<u64>,
    pub(super) every: Duration,
}

impl Follow {
    /// Returns when the models may be others than those of the cursor. May be cancelled.
    pub(super) async fn changed(&mut self, directory: &dyn Directory) {
        loop {
            sleep(self.every).await;
            let asked = timeout(PATIENCE, directory.changes(self.cursor.unwrap_or(0))).await;
            let Ok(Ok(changes)) = asked else { continue };
            // Cursor 0 asks for the newest place only: what was changed since comes without a name.
            let unnamed = self.cursor == Some(0) && changes.cursor != 0;
            let first = self.cursor.is_none();
            self.cursor = Some(changes.cursor);
            if first
                || unnamed
                || changes.lost
                || changes.changed.iter().any(|change| KINDS.contains(&change.of.kind))
            {
                return;
            }
        }
    }
}

#[cfg(test)]
#[path = "stored_tests.rs"]
mod tests;
