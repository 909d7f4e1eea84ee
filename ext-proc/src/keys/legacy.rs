//! Keys in their older shape, for who has not moved to entities yet.

use crate::entity::Entity;
use crate::store::{KeyRow, NewKey};

#[cfg(test)]
pub(crate) fn entity_of(row: KeyRow) -> Entity {
    let amount = |amount: Option<i64>| amount.and_then(|amount| u64::try_from(amount).ok());
    let key = row.key;
    let mut entity = Entity::new(crate::entity::EntityKind::Key, key.hash);
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

/// Makes a double of the older key store a directory that knows its keys.
#[cfg(test)]
macro_rules! directory_of_keys {
    ($double:ty) => {
        #[async_trait::async_trait]
        impl crate::store::Directory for $double {
            async fn key(&self, hash: &str) -> Result<Option<crate::entity::Entity>, StoreError> {
                Ok(KeyStore::key(self, hash).await?.map(crate::keys::entity_of))
            }

            async fn entities(
                &self,
                of: &[crate::entity::EntityRef],
            ) -> Result<Vec<crate::entity::Entity>, StoreError> {
                let mut found = Vec::new();
                for of in of.iter().filter(|of| of.kind == crate::entity::EntityKind::Key) {
                    found.extend(KeyStore::key(self, &of.id).await?.map(crate::keys::entity_of));
                }
                Ok(found)
            }

            async fn list(&self, _: &crate::store::Filter) -> Result<crate::store::Page, StoreError> {
                self.check().map(|()| crate::store::Page::default())
            }

            async fn apply(
                &self,
                _: &[crate::store::Write],
                _: &crate::store::Author,
            ) -> Result<Vec<Option<crate::entity::Entity>>, StoreError> {
                Err(StoreError::Broken { backend: "double", reason: "keys only".to_owned() })
            }

            async fn changes(&self, cursor: u64) -> Result<crate::store::Changes, StoreError> {
                self.check().map(|()| crate::store::Changes { cursor, ..crate::store::Changes::default() })
            }

            async fn audit(
                &self,
                _: &crate::store::AuditFilter,
            ) -> Result<(Vec<crate::store::AuditRow>, u64), StoreError> {
                self.check().map(|()| (Vec::new(), 0))
            }

            async fn usage(
                &self,
                of: &[(crate::entity::EntityRef, u64)],
            ) -> Result<Vec<crate::store::UsageSum>, StoreError> {
                self.check().map(|()| of.iter().map(|_| crate::store::UsageSum::default()).collect())
            }
        }
    };
}
#[cfg(test)]
pub(crate) use directory_of_keys;
