//! A database in memory that fails on demand, for tests of what the real ones cannot be made to do.

mod ledger;
mod reports;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Value;

use super::{Entity, EntityKind, EntityRef};
use crate::store::{
    AuditFilter, AuditRow, Author, Change, Changes, Directory, Filter, Page, PromptRow, Sort, SpendRow,
    StoreError, UsageSum, Write,
};

pub(crate) use ledger::Fault;

#[derive(Default)]
pub(crate) struct Entities {
    pub(crate) all: Mutex<BTreeMap<EntityRef, Entity>>,
    pub(crate) feed: Mutex<Vec<Change>>,
    pub(crate) audit: Mutex<Vec<AuditRow>>,
    pub(crate) usage: Mutex<BTreeMap<EntityRef, UsageSum>>,
    /// The ledger, by call id.
    pub(crate) rows: Mutex<BTreeMap<String, SpendRow>>,
    /// What was said, by call id.
    pub(crate) prompts: Mutex<BTreeMap<String, PromptRow>>,
    /// Of writes to it; the last one comes first.
    pub(crate) faults: Mutex<Vec<Fault>>,
    /// Rows with this call id are called broken.
    pub(crate) poison: Mutex<Option<String>>,
    /// Every call is `Unavailable`.
    pub(crate) away: AtomicBool,
    /// Calls of `key` and `entities`.
    pub(crate) key_reads: AtomicUsize,
    /// Entities asked for in them.
    pub(crate) asked: AtomicUsize,
    /// How long they take: what they give is from before the wait.
    pub(crate) delay: Mutex<Duration>,
    clock: AtomicU64,
}

impl Entities {
    pub(crate) fn put(&self, entity: Entity) -> Entity {
        let mut all = self.all.lock();
        let before = all.get(&entity.reference());
        let version = entity.updated_ms.max(before.map_or(0, |before| before.updated_ms + 1));
        let entity = Entity { updated_ms: version, ..entity };
        all.insert(entity.reference(), entity.clone());
        self.feed.lock().push(Change { of: entity.reference(), version });
        entity
    }

    /// Takes it away and tells the feed, as another process would.
    pub(crate) fn remove(&self, of: &EntityRef) {
        let removed = self.all.lock().remove(of);
        let version = removed.map_or(u64::MAX, |removed| removed.updated_ms + 1);
        self.feed.lock().push(Change { of: of.clone(), version });
    }

    async fn wait(&self) {
        let delay = *self.delay.lock();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        match self.away.load(Ordering::SeqCst) {
            true => Err(gone()),
            false => Ok(()),
        }
    }

    fn one(
        &self,
        all: &mut BTreeMap<EntityRef, Entity>,
        write: &Write,
    ) -> Result<Option<Entity>, StoreError> {
        let now = self.clock.fetch_add(1, Ordering::SeqCst) + 1;
        Ok(match write {
            Write::Insert(entity) => {
                if all.contains_key(&entity.reference()) {
                    return Err(StoreError::Conflict("id"));
                }
                unique(all, entity)?;
                let entity = Entity { created_ms: now, updated_ms: now, ..entity.clone() };
                all.insert(entity.reference(), entity.clone());
                Some(entity)
            }
            Write::Replace { before, after } => {
                let known = all.get(&before.reference()).ok_or(StoreError::Conflict("version"))?;
                if known.updated_ms != before.updated_ms {
                    return Err(StoreError::Conflict("version"));
                }
                let (spend_nanos, spend_reset_ms) = (known.spend_nanos, known.spend_reset_ms);
                unique(all, after)?;
                let entity = Entity { updated_ms: now, spend_nanos, spend_reset_ms, ..(**after).clone() };
                all.insert(entity.reference(), entity.clone());
                Some(entity)
            }
            Write::Delete(of) => all.remove(of),
            Write::Expect(of) => Some(all.get(of).cloned().ok_or(StoreError::Conflict("missing"))?),
            Write::ResetSpend { of, to_nanos } => all.get_mut(of).map(|entity| {
                (entity.spend_nanos, entity.spend_reset_ms, entity.updated_ms) = (*to_nanos, now, now);
                entity.clone()
            }),
            Write::Rotate { from, to, grace_until_ms } => {
                let Some(old) = all.remove(&EntityRef::new(EntityKind::Key, from)) else { return Ok(None) };
                if all.contains_key(&to.reference()) {
                    return Err(StoreError::Conflict("id"));
                }
                if let Some(until) = grace_until_ms {
                    let mut rotated = Entity::new(EntityKind::RotatedKey, from);
                    rotated.expires_ms = Some(*until);
                    rotated.settings.successor = Some(to.id.clone());
                    all.insert(rotated.reference(), rotated);
                }
                let new = Entity { spend_nanos: old.spend_nanos, updated_ms: now, ..(**to).clone() };
                all.insert(new.reference(), new.clone());
                Some(new)
            }
        })
    }
}

fn gone() -> StoreError {
    StoreError::Unavailable { backend: "double", reason: "away".to_owned() }
}

fn unique(all: &BTreeMap<EntityRef, Entity>, entity: &Entity) -> Result<(), StoreError> {
    let same = |other: &Entity| {
        other.kind == EntityKind::Key && other.alias == entity.alias && other.id != entity.id
    };
    match entity.kind == EntityKind::Key && entity.alias.is_some() && all.values().any(same) {
        true => Err(StoreError::Conflict("key_alias")),
        false => Ok(()),
    }
}

fn matches(filter: &Filter, entity: &Entity) -> bool {
    let same = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
    let alias = match (&filter.alias, filter.substring) {
        (Some(part), true) => entity.alias.as_ref().is_some_and(|alias| alias.contains(part.as_str())),
        (wanted, _) => same(wanted, &entity.alias),
    };
    filter.kind.is_none_or(|kind| kind == entity.kind)
        && filter.ids.as_ref().is_none_or(|ids| ids.contains(&entity.id))
        && alias
        && same(&filter.team_id, &entity.team_id)
        && filter
            .team_ids
            .as_ref()
            .is_none_or(|ids| entity.team_id.as_ref().is_some_and(|id| ids.contains(id)))
        && same(&filter.user_id, &entity.user_id)
        && same(&filter.organization_id, &entity.organization_id)
        && same(&filter.budget_id, &entity.budget_id)
        && same(&filter.created_by, &entity.created_by)
        && same(&filter.role, &entity.settings.role)
        && same(&filter.email, &entity.settings.email)
        && filter.blocked.is_none_or(|blocked| blocked == entity.blocked)
        && filter
            .expired
            .is_none_or(|(now, expired)| entity.expires_ms.is_some_and(|until| until <= now) == expired)
}

#[async_trait]
impl Directory for Entities {
    async fn key(&self, hash: &str) -> Result<Option<Entity>, StoreError> {
        self.key_reads.fetch_add(1, Ordering::SeqCst);
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.check()?;
        let found = {
            let all = self.all.lock();
            let find = |kind| all.get(&EntityRef::new(kind, hash)).cloned();
            find(EntityKind::Key).or_else(|| find(EntityKind::RotatedKey))
        };
        self.wait().await;
        Ok(found)
    }

    async fn entities(&self, of: &[EntityRef]) -> Result<Vec<Entity>, StoreError> {
        self.key_reads.fetch_add(1, Ordering::SeqCst);
        self.asked.fetch_add(of.len(), Ordering::SeqCst);
        self.check()?;
        let found = {
            let all = self.all.lock();
            of.iter().filter_map(|of| all.get(of).cloned()).collect()
        };
        self.wait().await;
        Ok(found)
    }

    async fn list(&self, filter: &Filter) -> Result<Page, StoreError> {
        self.check()?;
        let mut found: Vec<Entity> =
            self.all.lock().values().filter(|entity| matches(filter, entity)).cloned().collect();
        match filter.sort {
            Sort::Created => found.sort_by_key(|e| (e.created_ms, e.id.clone())),
            Sort::Updated => found.sort_by_key(|e| (e.updated_ms, e.id.clone())),
            Sort::Alias => found.sort_by_key(|e| (e.alias.clone(), e.id.clone())),
            Sort::Id => found.sort_by_key(|e| e.id.clone()),
            Sort::Spend => found.sort_by_key(|e| (e.spend_nanos, e.id.clone())),
            Sort::Expires => found.sort_by_key(|e| (e.expires_ms, e.id.clone())),
        }
        if !filter.ascending {
            found.reverse();
        }
        let total = found.len() as u64;
        let from = usize::try_from(filter.offset).unwrap_or(usize::MAX).min(found.len());
        let entities = found.into_iter().skip(from).take(filter.limit as usize).collect();
        Ok(Page { entities, total })
    }

    async fn apply(&self, writes: &[Write], author: &Author) -> Result<Vec<Option<Entity>>, StoreError> {
        self.check()?;
        let mut all = self.all.lock();
        let mut next = all.clone();
        let done = writes.iter().map(|write| self.one(&mut next, write)).collect::<Result<Vec<_>, _>>()?;
        for (write, entity) in writes.iter().zip(&done) {
            let Some(entity) = entity else { continue };
            let what = match write {
                Write::Insert(_) => "created",
                Write::Replace { .. } => "updated",
                Write::Delete(_) => "deleted",
                Write::Expect(_) => continue,
                Write::ResetSpend { .. } => "spend_reset",
                Write::Rotate { .. } => "rotated",
            };
            // Versions here do not always rise: everyone reads again.
            let version = u64::MAX;
            self.feed.lock().push(Change { of: entity.reference(), version });
            if let Write::Rotate { from, .. } = write {
                self.feed.lock().push(Change { of: EntityRef::new(EntityKind::Key, from), version });
            }
            let known = |all: &BTreeMap<EntityRef, Entity>| {
                all.get(&entity.reference())
                    .map_or(Value::Null, |e| serde_json::to_value(&e.settings).unwrap())
            };
            let row = AuditRow {
                id: self.audit.lock().len().to_string(),
                at_ms: entity.updated_ms,
                author: author.clone(),
                of: entity.reference(),
                what: what.to_owned(),
                before: known(&all),
                after: known(&next),
            };
            self.audit.lock().insert(0, row);
        }
        *all = next;
        Ok(done)
    }

    async fn changes(&self, cursor: u64) -> Result<Changes, StoreError> {
        self.check()?;
        let feed = self.feed.lock();
        let new = usize::try_from(cursor).unwrap_or(usize::MAX).min(feed.len());
        let changed = if cursor == 0 { Vec::new() } else { feed[new..].to_vec() };
        Ok(Changes { cursor: feed.len() as u64, changed, lost: false })
    }

    async fn audit(&self, filter: &AuditFilter) -> Result<(Vec<AuditRow>, u64), StoreError> {
        self.check()?;
        let rows: Vec<AuditRow> = self
            .audit
            .lock()
            .iter()
            .filter(|row| filter.of.as_ref().is_none_or(|of| *of == row.of))
            .filter(|row| filter.row.as_ref().is_none_or(|id| *id == row.id))
            .filter(|row| filter.kind.is_none_or(|kind| kind == row.of.kind))
            .filter(|row| filter.what.as_ref().is_none_or(|what| *what == row.what))
            .filter(|row| filter.key.as_ref().is_none_or(|key| *key == row.author.key))
            .filter(|row| filter.changed_by.as_ref().is_none_or(|by| *by == row.author.user))
            .filter(|row| filter.action.as_ref().is_none_or(|action| *action == row.author.action))
            .cloned()
            .collect();
        let total = rows.len() as u64;
        let from = usize::try_from(filter.offset).unwrap_or(usize::MAX);
        Ok((rows.into_iter().skip(from).take(filter.limit as usize).collect(), total))
    }

    async fn usage(&self, of: &[(EntityRef, u64)]) -> Result<Vec<UsageSum>, StoreError> {
        self.check()?;
        let usage = self.usage.lock();
        Ok(of.iter().map(|(of, _)| usage.get(of).copied().unwrap_or_default()).collect())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.check()
    }
}
