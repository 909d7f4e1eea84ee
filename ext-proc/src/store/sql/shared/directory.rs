//! `Directory`: what is read, one statement each. Compiled once per driver, as `ledger.rs`.

use async_trait::async_trait;
use serde::Serialize;
use sqlx::{FromRow, QueryBuilder};

use super::super::entities::{EntityRecord, Named, kind, name};
use super::super::errors::broken;
use super::super::lease::{Failure, within};
use super::super::records::{MAX_TEXT, bounded, signed, unsigned};
use super::apply::{apply, is_deadlock};
use super::list::list;
use super::{BACKEND, Connection, Db, MUTATION, READ, Store, WRITE, feed};
use crate::entity::{Entity, EntityRef};
use crate::store::memory::wall_ms;
use crate::store::{
    AuditFilter, AuditRow, Author, Change, Changes, Directory, Filter, Page, StoreError, UsageSum, Write,
};

/// Writes of one change from which it is an import, which takes its time.
const MANY: usize = 100;
/// How often a change is tried again that the database undid for another's sake.
const TRIES: usize = 4;

const KEY: &str = concat!(
    "SELECT ",
    entity_columns!(),
    " FROM attache_entities AS e WHERE e.kind IN ('key', 'rotated_key') AND e.id = $1 ORDER BY e.kind LIMIT 1"
);
const ENTITIES: &str = concat!(
    "SELECT ",
    entity_columns!(),
    " FROM ",
    given!(kind text, id text),
    " JOIN attache_entities AS e ON e.kind = given.kind AND e.id = given.id"
);
const USAGE: &str = concat!(
    "SELECT CAST(COALESCE(SUM(u.requests), 0) AS BIGINT) AS requests, \
     CAST(COALESCE(SUM(u.prompt_tokens), 0) AS BIGINT) AS prompt_tokens, \
     CAST(COALESCE(SUM(u.completion_tokens), 0) AS BIGINT) AS completion_tokens, \
     CAST(COALESCE(SUM(u.nanos), 0) AS BIGINT) AS nanos FROM ",
    given!(n bigint, kind text, id text, quarter bigint),
    " LEFT JOIN attache_usage AS u ON u.kind = given.kind AND u.id = given.id AND u.quarter >= given.quarter \
     GROUP BY given.n ORDER BY given.n"
);
const AUDIT: &str = "SELECT seq, at_ms, changed_by, key_id, action, kind, id, what, before_json, after_json \
     FROM attache_audit WHERE TRUE";
const AUDIT_COUNT: &str = "SELECT COUNT(*) FROM attache_audit WHERE TRUE";

#[derive(Debug, FromRow)]
struct AuditRecord {
    seq: i64,
    at_ms: i64,
    changed_by: String,
    key_id: String,
    action: String,
    kind: String,
    id: String,
    what: String,
    before_json: String,
    after_json: String,
}

#[derive(Debug, Serialize)]
struct Since {
    n: usize,
    #[serde(flatten)]
    of: Named,
    quarter: u64,
}

#[derive(Debug, FromRow)]
struct UsageRecord {
    requests: i64,
    prompt_tokens: i64,
    completion_tokens: i64,
    nanos: i64,
}

/// Reads a row, which nobody but us writes.
pub(super) fn entity(record: EntityRecord) -> Result<Entity, StoreError> {
    Entity::try_from(record).map_err(|reason| broken(BACKEND, reason))
}

/// Rows as the parameter of a statement that has `given!`.
pub(super) fn given<T: Serialize>(rows: &[T]) -> Result<String, Failure> {
    serde_json::to_string(rows).map_err(|error| broken(BACKEND, error).into())
}

#[async_trait]
impl Directory for Store {
    async fn key(&self, hash: &str) -> Result<Option<Entity>, StoreError> {
        let mut lease = self.lease(READ).await?;
        let query = sqlx::query_as::<_, EntityRecord>(KEY).bind(name(hash));
        let answer = within(lease.deadline, query.fetch_optional(&mut *lease.connection)).await;
        lease.end(answer)?.map(entity).transpose()
    }

    async fn entities(&self, of: &[EntityRef]) -> Result<Vec<Entity>, StoreError> {
        if of.is_empty() {
            return Ok(Vec::new());
        }
        let mut wanted: Vec<Named> = of.iter().map(Named::from).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut lease = self.lease(READ).await?;
        let answer = within(lease.deadline, read(&mut lease.connection, &wanted)).await;
        lease.end(answer)?.into_iter().map(entity).collect()
    }

    async fn list(&self, filter: &Filter) -> Result<Page, StoreError> {
        let mut lease = self.lease(READ).await?;
        let answer = within(lease.deadline, list(&mut lease.connection, filter)).await;
        let (records, total) = lease.end(answer)?;
        Ok(Page { entities: records.into_iter().map(entity).collect::<Result<_, _>>()?, total })
    }

    async fn apply(&self, writes: &[Write], author: &Author) -> Result<Vec<Option<Entity>>, StoreError> {
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let mut lease = self.lease(if writes.len() > MANY { WRITE } else { MUTATION }).await?;
        let mut answer = Err(Failure::Late);
        for _ in 0..TRIES {
            // Boxed: the transaction makes a future of 17 kB, which every caller's would contain.
            let applied = Box::pin(apply(&mut lease.connection, writes, author));
            answer = within(lease.deadline, applied).await;
            if !answer.as_ref().is_err_and(is_deadlock) {
                break;
            }
        }
        lease.end(answer)
    }

    async fn changes(&self, cursor: u64) -> Result<Changes, StoreError> {
        self.prune_at_times().await;
        let mut lease = self.lease(READ).await?;
        let answer = within(lease.deadline, feed::read(&mut lease.connection, signed(cursor))).await;
        let (next, lost, named) = lease.end(answer)?;
        let mut changed = Vec::with_capacity(named.len());
        if cursor != 0 {
            for (kind_name, id, version) in named {
                // A kind that only a newer sidecar knows is nothing to us.
                let Ok(kind) = kind(&kind_name) else { continue };
                changed.push(Change { of: EntityRef::new(kind, id), version: unsigned(version) });
            }
            // The last change of each.
            changed.sort_unstable_by(|a, b| (&a.of, b.version).cmp(&(&b.of, a.version)));
            changed.dedup_by(|later, first| later.of == first.of);
        }
        Ok(Changes { cursor: unsigned(next), changed, lost: lost && cursor != 0 })
    }

    async fn audit(&self, filter: &AuditFilter) -> Result<(Vec<AuditRow>, u64), StoreError> {
        let mut lease = self.lease(READ).await?;
        let answer = within(lease.deadline, audit(&mut lease.connection, filter)).await;
        let (records, total) = lease.end(answer)?;
        Ok((records.into_iter().map(audit_row).collect::<Result<_, _>>()?, total))
    }

    async fn usage(&self, of: &[(EntityRef, u64)]) -> Result<Vec<UsageSum>, StoreError> {
        if of.is_empty() {
            return Ok(Vec::new());
        }
        let since = of.iter().enumerate();
        let since: Vec<Since> =
            since.map(|(n, (of, since))| Since { n, of: of.into(), quarter: since / 900 }).collect();
        let mut lease = self.lease(READ).await?;
        let answer = within(lease.deadline, usage(&mut lease.connection, &since)).await;
        Ok(lease.end(answer)?.into_iter().map(usage_sum).collect())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let mut lease = self.lease(READ).await?;
        let answer = within(lease.deadline, sqlx::query("SELECT 1").execute(&mut *lease.connection)).await;
        lease.end(answer).map(|_| ())
    }
}

impl Store {
    /// Once a minute the feed loses what is older than ten. Nobody waits for it, nor for its errors: the next minute
    /// tries again.
    async fn prune_at_times(&self) {
        const OFTEN: u64 = 60_000;
        const KEPT: u64 = 600_000;
        let now = wall_ms();
        let last = self.pruned_ms.load(std::sync::atomic::Ordering::Relaxed);
        if now.abs_diff(last) < OFTEN {
            return;
        }
        self.pruned_ms.store(now, std::sync::atomic::Ordering::Relaxed);
        let Ok(mut lease) = self.lease(MUTATION).await else { return };
        let pruned = feed::prune(&mut lease.connection, signed(now.saturating_sub(KEPT)));
        let answer = within(lease.deadline, pruned).await;
        if let Err(error) = lease.end(answer) {
            tracing::debug!(%error, "the feed of changes was not pruned");
        }
    }
}

async fn read(connection: &mut Connection, wanted: &[Named]) -> Result<Vec<EntityRecord>, Failure> {
    Ok(sqlx::query_as(ENTITIES).bind(given(wanted)?).fetch_all(connection).await?)
}

async fn usage(connection: &mut Connection, since: &[Since]) -> Result<Vec<UsageRecord>, Failure> {
    Ok(sqlx::query_as(USAGE).bind(given(since)?).fetch_all(connection).await?)
}

fn usage_sum(record: UsageRecord) -> UsageSum {
    UsageSum {
        requests: unsigned(record.requests),
        prompt_tokens: unsigned(record.prompt_tokens),
        completion_tokens: unsigned(record.completion_tokens),
        nanos: unsigned(record.nanos),
    }
}

async fn audit(connection: &mut Connection, filter: &AuditFilter) -> sqlx::Result<(Vec<AuditRecord>, u64)> {
    let select = |text: &'static str| {
        let mut query = QueryBuilder::<Db>::new(text);
        if let Some(of) = &filter.of {
            query.push(" AND kind = ").push_bind(of.kind.name()).push(" AND id = ").push_bind(name(&of.id));
        }
        if let Some(row) = &filter.row {
            // What is no number is no row's.
            query.push(" AND seq = ").push_bind(row.parse::<i64>().unwrap_or(-1));
        }
        if let Some(kind) = filter.kind {
            query.push(" AND kind = ").push_bind(kind.name());
        }
        if let Some(what) = &filter.what {
            query.push(" AND what = ").push_bind(bounded(what, MAX_TEXT).into_owned());
        }
        if let Some(key) = &filter.key {
            query.push(" AND key_id = ").push_bind(bounded(key, MAX_TEXT).into_owned());
        }
        if let Some(by) = &filter.changed_by {
            query.push(" AND changed_by = ").push_bind(bounded(by, MAX_TEXT).into_owned());
        }
        if let Some(action) = &filter.action {
            query.push(" AND action = ").push_bind(bounded(action, MAX_TEXT).into_owned());
        }
        query
    };
    let total: i64 = select(AUDIT_COUNT).build_query_scalar().fetch_one(&mut *connection).await?;
    if filter.limit == 0 {
        return Ok((Vec::new(), unsigned(total)));
    }
    let mut page = select(AUDIT);
    page.push(" ORDER BY seq DESC LIMIT ").push_bind(i64::from(filter.limit));
    page.push(" OFFSET ").push_bind(signed(filter.offset));
    Ok((page.build_query_as().fetch_all(connection).await?, unsigned(total)))
}

fn audit_row(record: AuditRecord) -> Result<AuditRow, StoreError> {
    let unreadable = |reason: String| broken(BACKEND, format!("attache_audit: {reason}"));
    let json = |text: &str| serde_json::from_str(text).map_err(|error| unreadable(error.to_string()));
    Ok(AuditRow {
        id: record.seq.to_string(),
        at_ms: unsigned(record.at_ms),
        author: Author { user: record.changed_by, key: record.key_id, action: record.action },
        of: EntityRef::new(kind(&record.kind).map_err(unreadable)?, record.id),
        what: record.what,
        before: json(&record.before_json)?,
        after: json(&record.after_json)?,
    })
}
