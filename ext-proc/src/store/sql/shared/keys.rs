//! `KeyStore` as a view of the entities, until everyone has moved to `Directory`. Compiled once per driver.

use async_trait::async_trait;
use serde_json::Value;

use super::super::lease::within;
use super::super::records::signed;
use super::{READ, Store};
use crate::entity::{Entity, EntityKind, EntityRef};
use crate::store::{Author, Directory, Filter, KeyRow, KeyStore, NewKey, StoreError, Write};

fn row(entity: Entity) -> KeyRow {
    let settings = entity.settings;
    KeyRow {
        key: NewKey {
            hash: entity.id,
            name: entity.name,
            alias: entity.alias,
            models: settings.models,
            user_id: entity.user_id,
            team_id: entity.team_id,
            expires_ms: entity.expires_ms,
            metadata: Value::Object(settings.metadata),
            max_budget_nanos: settings.max_budget_nanos.map(signed),
            rpm_limit: settings.rpm_limit.map(signed),
            tpm_limit: settings.tpm_limit.map(signed),
            created_by: entity.created_by,
        },
        blocked: entity.blocked,
        spend_nanos: entity.spend_nanos,
        created_ms: entity.created_ms,
        updated_ms: entity.updated_ms,
    }
}

fn new(key: NewKey) -> Entity {
    let limit = |limit: Option<i64>| limit.and_then(|limit| u64::try_from(limit).ok());
    let mut entity = Entity::new(EntityKind::Key, key.hash);
    entity.name = key.name;
    entity.alias = key.alias;
    entity.user_id = key.user_id;
    entity.team_id = key.team_id;
    entity.expires_ms = key.expires_ms;
    entity.created_by = key.created_by;
    entity.settings.models = key.models;
    if let Value::Object(metadata) = key.metadata {
        entity.settings.metadata = metadata;
    }
    entity.settings.max_budget_nanos = limit(key.max_budget_nanos);
    entity.settings.rpm_limit = limit(key.rpm_limit);
    entity.settings.tpm_limit = limit(key.tpm_limit);
    entity
}

#[async_trait]
impl KeyStore for Store {
    async fn key(&self, hash: &str) -> Result<Option<KeyRow>, StoreError> {
        let key = Directory::key(self, hash).await?;
        Ok(key.filter(|key| key.kind == EntityKind::Key).map(row))
    }

    async fn insert_key(&self, key: NewKey) -> Result<KeyRow, StoreError> {
        let inserted = self.apply(&[Write::Insert(new(key))], &Author::default()).await?;
        let inserted = inserted.into_iter().flatten().next();
        inserted.map(row).ok_or(StoreError::Conflict("id"))
    }

    async fn delete_keys(&self, hashes: &[String]) -> Result<Vec<String>, StoreError> {
        let deletes: Vec<Write> =
            hashes.iter().map(|hash| Write::Delete(EntityRef::new(EntityKind::Key, hash))).collect();
        let deleted = self.apply(&deletes, &Author::default()).await?;
        Ok(deleted.into_iter().flatten().map(|entity| entity.id).collect())
    }

    async fn hashes_of_aliases(&self, aliases: &[String]) -> Result<Vec<(String, String)>, StoreError> {
        let mut found = Vec::new();
        for alias in aliases {
            let (kind, alias) = (Some(EntityKind::Key), Some(alias.clone()));
            let page = self.list(&Filter { kind, alias, limit: 1, ..Filter::default() }).await?;
            found.extend(page.entities.into_iter().filter_map(|key| Some((key.alias?, key.id))));
        }
        Ok(found)
    }

    async fn set_blocked(&self, hash: &str, blocked: bool) -> Result<Option<KeyRow>, StoreError> {
        loop {
            let Some(before) = Directory::key(self, hash).await? else { return Ok(None) };
            let after = Box::new(Entity { blocked, ..before.clone() });
            let write = Write::Replace { before: Box::new(before), after };
            match self.apply(&[write], &Author::default()).await {
                Err(StoreError::Conflict("version")) => {}
                answer => return Ok(answer?.into_iter().flatten().next().map(row)),
            }
        }
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let mut lease = self.lease(READ).await?;
        let answer = within(lease.deadline, sqlx::query("SELECT 1").execute(&mut *lease.connection)).await;
        lease.end(answer).map(|_| ())
    }
}
