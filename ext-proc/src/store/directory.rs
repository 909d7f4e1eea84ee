//! Entities in the database, and what happened to them.

use async_trait::async_trait;
use serde_json::Value;

use super::StoreError;
use crate::entity::{Entity, EntityKind, EntityRef};

/// Entities (table `attache_entities`), their audit log and the feed of changes.
#[async_trait]
pub trait Directory: Send + Sync {
    /// The key behind a hash: [`EntityKind::Key`], or the [`EntityKind::RotatedKey`] of an old hash. Blocked and expired
    /// ones included. One read by the primary key.
    async fn key(&self, hash: &str) -> Result<Option<Entity>, StoreError>;
    /// Those of these entities that exist, in one round trip, in any order.
    async fn entities(&self, of: &[EntityRef]) -> Result<Vec<Entity>, StoreError>;
    /// One page and the count of all that match.
    async fn list(&self, filter: &Filter) -> Result<Page, StoreError>;
    /// Makes all of these changes or none, in one transaction, with the audit rows and the feed's entries. Returns the
    /// entities as they are now, one per write ([`Write::Delete`]: as it was last; `None`: there was none).
    ///
    /// # Errors
    /// [`StoreError::Conflict`] naming the field (`id`, `key_alias`) when it exists, `missing` when an expected entity does
    /// not, or `version` when the entity was changed since it was read: read it again and try again.
    async fn apply(&self, writes: &[Write], author: &Author) -> Result<Vec<Option<Entity>>, StoreError>;
    /// What changed after `cursor` (0: nothing is wanted but the newest cursor), including what other processes changed.
    /// May name an entity twice, never misses one.
    async fn changes(&self, cursor: u64) -> Result<Changes, StoreError>;
    /// The audit log, newest first: one page and the count of all that match.
    async fn audit(&self, filter: &AuditFilter) -> Result<(Vec<AuditRow>, u64), StoreError>;
    /// Use of entities in the ledger since a moment each (Unix seconds, rounded down to a quarter of an hour), in order.
    async fn usage(&self, of: &[(EntityRef, u64)]) -> Result<Vec<UsageSum>, StoreError>;
    /// Is the database reachable, its tables up to date?
    async fn ping(&self) -> Result<(), StoreError>;
}

/// A change of an entity.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "most are inserts, of which an import has many; the rest is rare"
)]
pub enum Write {
    Insert(Entity),
    /// `after` in place of the entity as it was read (its `updated_ms` and settings tell). Spend stays as it is.
    Replace {
        before: Box<Entity>,
        after: Box<Entity>,
    },
    Delete(EntityRef),
    /// Changes nothing: the entity must be there, and stays until the other changes are made. What is inserted beside it
    /// belongs to it, and must not outlive it.
    Expect(EntityRef),
    /// Sets the spend; what is spent from now on is added to it.
    ResetSpend {
        of: EntityRef,
        to_nanos: i64,
    },
    /// A key gets another hash: `to` is inserted with the spend of `from`, which goes, or stays as a rotated key until
    /// `grace_until_ms`.
    Rotate {
        from: String,
        to: Box<Entity>,
        grace_until_ms: Option<u64>,
    },
}

/// Who changes something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Author {
    /// User, or what `litellm-changed-by` says.
    pub user: String,
    /// Id of the key (hash or the master key's name).
    pub key: String,
    /// Name of the call, e.g. `/key/update`, `attache key create`.
    pub action: String,
}

/// Which entities. Everything given must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub kind: Option<EntityKind>,
    pub ids: Option<Vec<String>>,
    pub alias: Option<String>,
    /// `alias` may be a part.
    pub substring: bool,
    pub team_id: Option<String>,
    /// Instead of `team_id`: any of these.
    pub team_ids: Option<Vec<String>>,
    pub user_id: Option<String>,
    pub organization_id: Option<String>,
    pub budget_id: Option<String>,
    pub created_by: Option<String>,
    /// Of users: `settings.role`.
    pub role: Option<String>,
    /// Of users: `settings.email`.
    pub email: Option<String>,
    pub blocked: Option<bool>,
    /// Expired at this moment (Unix milliseconds), or not.
    pub expired: Option<(u64, bool)>,
    pub sort: Sort,
    pub ascending: bool,
    pub offset: u64,
    /// 0: only the count is wanted.
    pub limit: u32,
}

/// Order of a list; the id decides between equals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sort {
    #[default]
    Created,
    Updated,
    Alias,
    Id,
    Spend,
    Expires,
}

/// A part of a list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    pub entities: Vec<Entity>,
    pub total: u64,
}

/// Part of the feed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// For the next ask.
    pub cursor: u64,
    pub changed: Vec<Change>,
    /// The feed was pruned beyond the cursor: anything may have changed.
    pub lost: bool,
}

/// A changed entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub of: EntityRef,
    /// [`Entity::updated_ms`] since, or what would have followed the last one where it was deleted: who has read the entity
    /// with this, or a higher one, has read the change.
    pub version: u64,
}

/// Which audit rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only this row.
    pub row: Option<String>,
    pub of: Option<EntityRef>,
    pub kind: Option<EntityKind>,
    /// [`AuditRow::what`].
    pub what: Option<String>,
    /// Id of the key that was used.
    pub key: Option<String>,
    pub changed_by: Option<String>,
    pub action: Option<String>,
    pub offset: u64,
    pub limit: u32,
}

/// One change: who, what, before, after.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRow {
    pub id: String,
    /// Unix milliseconds.
    pub at_ms: u64,
    pub author: Author,
    pub of: EntityRef,
    /// `created`, `updated`, `deleted`, `rotated`, `spend_reset`.
    pub what: String,
    /// The entity as JSON, without secrets; null when there was none.
    pub before: Value,
    pub after: Value,
}

/// Use over a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsageSum {
    pub requests: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub nanos: u64,
}
