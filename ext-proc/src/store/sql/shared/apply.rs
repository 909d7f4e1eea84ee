//! Changes of entities: one transaction with audit rows and the feed's entries. Compiled once per driver, as
//! `ledger.rs`.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use sqlx::{Connection as _, Transaction};

use super::super::entities::{EntityRecord, Named, audited, name};
use super::super::errors::broken;
use super::super::lease::Failure;
use super::super::records::{MAX_TEXT, bounded, signed};
use super::directory::{entity, given};
use super::{BACKEND, BEGIN, Connection, Db};
use crate::entity::{Entity, EntityKind, EntityRef};
use crate::store::memory::wall_ms;
use crate::store::{Author, StoreError, Write};

/// All use of a given entity. Its row is locked: the writer adds to spend and use in one transaction.
macro_rules! used {
    () => {
        "COALESCE((SELECT CAST(SUM(u.nanos) AS BIGINT) FROM attache_usage AS u \
         WHERE u.kind = given.kind AND u.id = given.account), 0)"
    };
}

/// In order, as the ledger locks them: two writers wait for each other in one direction only.
const READ: &str = concat!(
    "SELECT ",
    entity_columns!(),
    " FROM ",
    given!(kind text, id text),
    " JOIN attache_entities AS e ON e.kind = given.kind AND e.id = given.id ORDER BY e.kind, e.id",
    lock!()
);
const INSERT: &str = concat!(
    "INSERT INTO attache_entities (kind, id, account, name, alias, team_id, user_id, organization_id, budget_id, \
     role, email, successor, blocked, expires_ms, settings, spend_nanos, spend_reset_ms, created_ms, updated_ms, \
     created_by, updated_by, spend_offset_nanos) SELECT kind, id, account, name, alias, team_id, user_id, organization_id, budget_id, \
     role, email, successor, blocked, expires_ms, settings, spend_nanos, spend_reset_ms, created_ms, updated_ms, \
     created_by, updated_by, spend_nanos - ",
    used!(),
    " FROM ",
    given_entities!()
);
const UPDATE: &str = concat!(
    "UPDATE attache_entities SET account = given.account, name = given.name, alias = given.alias, \
     team_id = given.team_id, user_id = given.user_id, organization_id = given.organization_id, \
     budget_id = given.budget_id, role = given.role, email = given.email, successor = given.successor, \
     blocked = given.blocked, expires_ms = given.expires_ms, settings = given.settings, \
     spend_offset_nanos = CASE WHEN given.spend_reset_ms = attache_entities.spend_reset_ms \
     THEN attache_entities.spend_offset_nanos ELSE given.spend_nanos - ",
    used!(),
    " END, \
     spend_nanos = given.spend_nanos, spend_reset_ms = given.spend_reset_ms, updated_ms = given.updated_ms, \
     updated_by = given.updated_by FROM ",
    given_entities!(),
    " WHERE attache_entities.kind = given.kind AND attache_entities.id = given.id"
);
const DELETE: &str = "DELETE FROM attache_entities WHERE kind = $1 AND id = $2";
/// Old hashes that stand for a key.
const ROTATED: &str = concat!(
    "SELECT ",
    entity_columns!(),
    " FROM attache_entities AS e WHERE e.kind = 'rotated_key' AND e.successor = $1 ORDER BY e.id",
    lock!()
);
const INSERT_CHANGES: &str = concat!(
    "INSERT INTO attache_changes (at_ms, kind, id, version) SELECT at_ms, kind, id, version FROM ",
    given!(at_ms bigint, kind text, id text, version bigint)
);
const INSERT_AUDIT: &str = concat!(
    "INSERT INTO attache_audit (at_ms, changed_by, key_id, action, kind, id, what, before_json, after_json) \
     SELECT at_ms, changed_by, key_id, action, kind, id, what, before_json, after_json FROM ",
    given!(at_ms bigint, changed_by text, key_id text, action text, kind text, id text, what text,
        before_json text, after_json text)
);

#[derive(Serialize)]
struct Change {
    at_ms: i64,
    #[serde(flatten)]
    of: Named,
    version: i64,
}

#[derive(Serialize)]
struct AuditLine {
    at_ms: i64,
    changed_by: String,
    key_id: String,
    action: String,
    #[serde(flatten)]
    of: Named,
    what: &'static str,
    before_json: String,
    after_json: String,
}

/// Was the transaction undone so that another one may go on?
pub(super) fn is_deadlock(failure: &Failure) -> bool {
    let Failure::Sql(sqlx::Error::Database(refusal)) = failure else { return false };
    BACKEND == "postgres" && refusal.code().is_some_and(|code| matches!(&*code, "40P01" | "40001"))
}

/// All of these changes, or none.
pub(super) async fn apply(
    connection: &mut Connection,
    writes: &[Write],
    author: &Author,
) -> Result<Vec<Option<Entity>>, Failure> {
    let transaction = connection.begin_with(BEGIN).await?;
    let mut work = Work {
        transaction,
        now_ms: wall_ms(),
        author,
        known: BTreeMap::new(),
        inserts: Vec::new(),
        changes: BTreeMap::new(),
        audit: Vec::new(),
    };
    work.read(writes).await?;
    let mut done = Vec::with_capacity(writes.len());
    for write in writes {
        if !matches!(write, Write::Insert(_)) {
            work.flush().await?;
        }
        done.push(work.one(write).await?);
    }
    work.flush().await?;
    work.record().await?;
    work.transaction.commit().await?;
    Ok(done)
}

/// A transaction under way.
struct Work<'a> {
    transaction: Transaction<'a, Db>,
    now_ms: u64,
    author: &'a Author,
    /// The entities that are named, as they are by now.
    known: BTreeMap<Named, Entity>,
    /// Inserted into `known`, not yet into the table: many go with one statement.
    inserts: Vec<EntityRecord>,
    /// With the version since; of several changes the last.
    changes: BTreeMap<Named, u64>,
    audit: Vec<AuditLine>,
}

impl Work<'_> {
    /// Locks and reads whatever the writes name.
    async fn read(&mut self, writes: &[Write]) -> Result<(), Failure> {
        let key = |id: &str| Named { kind: EntityKind::Key.name(), id: name(id) };
        let old = |id: &str| Named { kind: EntityKind::RotatedKey.name(), id: name(id) };
        let mut wanted = Vec::with_capacity(writes.len());
        for write in writes {
            match write {
                Write::Insert(entity) => {
                    wanted.push(named(entity));
                    if entity.kind == EntityKind::Key {
                        wanted.push(old(&entity.id));
                    }
                }
                Write::Replace { before, .. } => wanted.push(named(before)),
                Write::Delete(of) | Write::Expect(of) | Write::ResetSpend { of, .. } => {
                    wanted.push(of.into());
                }
                Write::Rotate { from, to, .. } => {
                    wanted.extend([key(from), old(from), key(&to.id), old(&to.id)]);
                }
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        let query = sqlx::query_as::<_, EntityRecord>(READ).bind(given(&wanted)?);
        for record in query.fetch_all(&mut *self.transaction).await? {
            let entity = entity(record)?;
            self.known.insert(named(&entity), entity);
        }
        Ok(())
    }

    async fn one(&mut self, write: &Write) -> Result<Option<Entity>, Failure> {
        match write {
            Write::Insert(new) => {
                let new = Entity { created_ms: self.now_ms, updated_ms: self.now_ms, ..new.clone() };
                let new = self.insert(new)?;
                self.note("created", None, Some(&new));
                Ok(Some(new))
            }
            Write::Replace { before, after } => self.replace(before, after).await.map(Some),
            Write::Delete(of) => self.delete(of).await,
            Write::Expect(of) => match self.known.get(&of.into()) {
                Some(entity) => Ok(Some(entity.clone())),
                None => Err(StoreError::Conflict("missing").into()),
            },
            Write::ResetSpend { of, to_nanos } => {
                let Some(before) = self.known.get(&of.into()).cloned() else { return Ok(None) };
                let now = self.after(&before);
                let entity =
                    Entity { spend_nanos: *to_nanos, spend_reset_ms: now, updated_ms: now, ..before.clone() };
                let entity = self.update(entity).await?;
                self.note("spend_reset", Some(&before), Some(&entity));
                Ok(Some(entity))
            }
            Write::Rotate { from, to, grace_until_ms } => self.rotate(from, to, *grace_until_ms).await,
        }
    }

    /// The version after that of `before`.
    fn after(&self, before: &Entity) -> u64 {
        self.now_ms.max(before.updated_ms.saturating_add(1))
    }

    fn insert(&mut self, new: Entity) -> Result<Entity, Failure> {
        let (record, new) = stored(&new)?;
        let of = named(&new);
        // A key under the hash of one that was rotated away and still counts would take its place.
        let old = Named { kind: EntityKind::RotatedKey.name(), id: of.id.clone() };
        let replayed = new.kind == EntityKind::Key && self.known.contains_key(&old);
        if replayed || self.known.contains_key(&of) {
            return Err(StoreError::Conflict("id").into());
        }
        self.inserts.push(record);
        self.changed(of.clone(), new.updated_ms);
        self.known.insert(of, new.clone());
        Ok(new)
    }

    async fn replace(&mut self, before: &Entity, after: &Entity) -> Result<Entity, Failure> {
        let conflict = StoreError::Conflict("version");
        let Some(known) = self.known.get(&named(before)).cloned() else { return Err(conflict.into()) };
        if (known.updated_ms, known.created_ms) != (before.updated_ms, before.created_ms) {
            return Err(conflict.into());
        }
        if (after.kind, &after.id) != (before.kind, &before.id) {
            return Err(broken(BACKEND, "a change may not rename an entity").into());
        }
        let entity = Entity {
            spend_nanos: known.spend_nanos,
            spend_reset_ms: known.spend_reset_ms,
            created_ms: known.created_ms,
            created_by: known.created_by.clone(),
            updated_ms: self.after(&known),
            ..after.clone()
        };
        let entity = self.update(entity).await?;
        self.note("updated", Some(&known), Some(&entity));
        Ok(entity)
    }

    async fn update(&mut self, entity: Entity) -> Result<Entity, Failure> {
        let (record, entity) = stored(&entity)?;
        sqlx::query(UPDATE).bind(given(&[record])?).execute(&mut *self.transaction).await?;
        self.changed(named(&entity), entity.updated_ms);
        self.known.insert(named(&entity), entity.clone());
        Ok(entity)
    }

    async fn delete(&mut self, of: &EntityRef) -> Result<Option<Entity>, Failure> {
        let of = Named::from(of);
        let Some(entity) = self.known.get(&of).cloned() else { return Ok(None) };
        self.remove(&entity).await?;
        if entity.kind == EntityKind::Key {
            for old in self.rotated(&of.id).await? {
                self.remove(&old).await?;
            }
        }
        self.note("deleted", Some(&entity), None);
        Ok(Some(entity))
    }

    async fn remove(&mut self, entity: &Entity) -> Result<(), Failure> {
        let of = named(entity);
        sqlx::query(DELETE).bind(of.kind).bind(&of.id).execute(&mut *self.transaction).await?;
        self.known.remove(&of);
        self.changed(of, self.after(entity));
        Ok(())
    }

    fn changed(&mut self, of: Named, version: u64) {
        let last = self.changes.entry(of).or_default();
        *last = version.max(*last);
    }

    async fn rotated(&mut self, successor: &str) -> Result<Vec<Entity>, Failure> {
        let query = sqlx::query_as::<_, EntityRecord>(ROTATED).bind(successor);
        let records = query.fetch_all(&mut *self.transaction).await?;
        Ok(records.into_iter().map(entity).collect::<Result<_, _>>()?)
    }

    async fn rotate(
        &mut self,
        from: &str,
        to: &Entity,
        grace_until_ms: Option<u64>,
    ) -> Result<Option<Entity>, Failure> {
        let of = Named { kind: EntityKind::Key.name(), id: name(from) };
        let Some(before) = self.known.get(&of).cloned() else { return Ok(None) };
        if to.kind != EntityKind::Key {
            return Err(broken(BACKEND, "a key is rotated to a key").into());
        }
        let mut new = Entity {
            spend_nanos: before.spend_nanos,
            spend_reset_ms: before.spend_reset_ms,
            created_ms: before.created_ms,
            updated_ms: self.after(&before),
            ..to.clone()
        };
        new.settings.account.get_or_insert_with(|| before.account().to_owned());
        let earlier = self.rotated(&of.id).await?;
        self.remove(&before).await?;
        let new = self.insert(new)?;
        self.flush().await?;
        // Hashes that were rotated earlier and are still good now stand for the new one.
        for mut old in earlier {
            old.settings.successor = Some(new.id.clone());
            old.updated_ms = self.after(&old);
            self.update(old).await?;
        }
        if let Some(until) = grace_until_ms {
            let mut old = Entity::new(EntityKind::RotatedKey, of.id);
            old.name.clone_from(&before.name);
            old.expires_ms = Some(until);
            old.settings.successor = Some(new.id.clone());
            (old.created_ms, old.updated_ms) = (self.now_ms, self.now_ms);
            self.insert(old)?;
        }
        self.note("rotated", Some(&before), Some(&new));
        Ok(Some(new))
    }

    /// For the audit log.
    fn note(&mut self, what: &'static str, before: Option<&Entity>, after: Option<&Entity>) {
        let Some(of) = after.or(before) else { return };
        let json = |entity: Option<&Entity>| entity.map_or(Value::Null, audited).to_string();
        self.audit.push(AuditLine {
            at_ms: signed(self.now_ms),
            changed_by: bounded(&self.author.user, MAX_TEXT).into_owned(),
            key_id: bounded(&self.author.key, MAX_TEXT).into_owned(),
            action: bounded(&self.author.action, MAX_TEXT).into_owned(),
            of: named(of),
            what,
            before_json: json(before),
            after_json: json(after),
        });
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        if !self.inserts.is_empty() {
            sqlx::query(INSERT).bind(given(&self.inserts)?).execute(&mut *self.transaction).await?;
            self.inserts.clear();
        }
        Ok(())
    }

    /// Audit rows and the feed's entries.
    async fn record(&mut self) -> Result<(), Failure> {
        let at_ms = signed(self.now_ms);
        let changes = std::mem::take(&mut self.changes);
        if changes.is_empty() {
            return Ok(());
        }
        let changes: Vec<Change> =
            changes.into_iter().map(|(of, version)| Change { at_ms, of, version: signed(version) }).collect();
        sqlx::query(INSERT_CHANGES).bind(given(&changes)?).execute(&mut *self.transaction).await?;
        sqlx::query(INSERT_AUDIT).bind(given(&self.audit)?).execute(&mut *self.transaction).await?;
        Ok(())
    }
}

fn named(entity: &Entity) -> Named {
    Named { kind: entity.kind.name(), id: name(&entity.id) }
}

/// The row of an entity, and the entity as it will be read from it.
fn stored(entity: &Entity) -> Result<(EntityRecord, Entity), Failure> {
    let record = EntityRecord::new(entity).map_err(|error| broken(BACKEND, error))?;
    let entity = super::directory::entity(record.clone())?;
    Ok((record, entity))
}
