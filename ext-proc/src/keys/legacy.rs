//! Keys of the older table, seen as entities. Goes when the database is a directory itself.

use std::sync::Arc;

use async_trait::async_trait;

use crate::entity::{Entity, EntityKind, EntityRef};
use crate::store::{
    AuditFilter, AuditRow, Author, Changes, Database, Directory, Filter, KeyRow, NewKey, Page, StoreError,
    UsageSum, Write,
};

pub(super) struct Legacy(pub(super) Arc<dyn Database>);

fn none<T>() -> Result<T, StoreError> {
    Err(StoreError::Broken { backend: "key store", reason: "not a directory".to_owned() })
}

#[async_trait]
impl Directory for Legacy {
    async fn key(&self, hash: &str) -> Result<Option<Entity>, StoreError> {
        Ok(self.0.key(hash).await?.map(entity))
    }

    async fn entities(&self, of: &[EntityRef]) -> Result<Vec<Entity>, StoreError> {
        let mut found = Vec::new();
        for of in of.iter().filter(|of| of.kind == EntityKind::Key) {
            found.extend(self.0.key(&of.id).await?.map(entity));
        }
        Ok(found)
    }

    async fn list(&self, _: &Filter) -> Result<Page, StoreError> {
        none()
    }

    async fn apply(&self, _: &[Write], _: &Author) -> Result<Vec<Option<Entity>>, StoreError> {
        none()
    }

    async fn changes(&self, cursor: u64) -> Result<Changes, StoreError> {
        Ok(Changes { cursor, ..Changes::default() })
    }

    async fn audit(&self, _: &AuditFilter) -> Result<(Vec<AuditRow>, u64), StoreError> {
        none()
    }

    async fn usage(&self, _: &[(EntityRef, u64)]) -> Result<Vec<UsageSum>, StoreError> {
        none()
    }
}

fn entity(row: KeyRow) -> Entity {
    let amount = |amount: Option<i64>| amount.and_then(|amount| u64::try_from(amount).ok());
    let key = row.key;
    let mut entity = Entity::new(EntityKind::Key, key.hash);
    entity.name = key.name;
    entity.alias = key.alias;
    entity.team_id = key.team_id;
    entity.user_id = key.user_id;
    entity.blocked = row.blocked;
    entity.expires_ms = key.expires_ms;
    entity.settings.models = key.models;
    entity.settings.max_budget_nanos = amount(key.max_budget_nanos);
    entity.settings.rpm_limit = amount(key.rpm_limit);
    entity.settings.tpm_limit = amount(key.tpm_limit);
    entity.settings.metadata = key.metadata.as_object().cloned().unwrap_or_default();
    entity.spend_nanos = row.spend_nanos;
    entity.created_ms = row.created_ms;
    entity.updated_ms = row.updated_ms;
    entity.created_by = key.created_by;
    entity
}

/// The older shape of a key.
pub(super) fn row(key: &Entity) -> KeyRow {
    let amount = |amount: Option<u64>| amount.and_then(|amount| i64::try_from(amount).ok());
    KeyRow {
        key: NewKey {
            hash: key.id.clone(),
            name: key.name.clone(),
            alias: key.alias.clone(),
            models: key.settings.models.clone(),
            user_id: key.user_id.clone(),
            team_id: key.team_id.clone(),
            expires_ms: key.expires_ms,
            metadata: key.settings.metadata.clone().into(),
            max_budget_nanos: amount(key.settings.max_budget_nanos),
            rpm_limit: amount(key.settings.rpm_limit),
            tpm_limit: amount(key.settings.tpm_limit),
            created_by: key.created_by.clone(),
        },
        blocked: key.blocked,
        spend_nanos: key.spend_nanos,
        created_ms: key.created_ms,
        updated_ms: key.updated_ms,
    }
}
