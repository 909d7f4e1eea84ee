//! Statements and traits over `super::{Db, Connection, Store, Lease}`: this file is compiled once per driver.
//! Both dialects understand every statement here (`$1` parameters, `ON CONFLICT`, `RETURNING`).

use std::collections::BTreeMap;

use async_trait::async_trait;
use sqlx::{Connection as _, QueryBuilder};

use super::super::errors::broken;
use super::super::lease::within;
use super::super::records::{
    KeyRecord, MAX_ID, MAX_TEXT, SpendRecord, TotalsRecord, bounded, clean, cost, count, signed,
};
use super::{BACKEND, BEGIN, Connection, Db, MUTATION, READ, Store, WRITE, add_spend};
use crate::store::memory::wall_ms;
use crate::store::{KeyRow, KeyStore, Ledger, LedgerTotals, NewKey, SpendRow, StoreError};

/// Rows per INSERT: far below the limit of bind parameters of either database (25 each).
const CHUNK: usize = 400;

macro_rules! key_columns {
    () => {
        "hash, name, alias, models, user_id, team_id, expires_ms, metadata, max_budget_nanos, rpm_limit, \
         tpm_limit, created_by, blocked, spend_nanos, created_ms, updated_ms"
    };
}
macro_rules! spend_columns {
    () => {
        "call_id, request_id, key_hash, endpoint, model, model_group, deployment, provider, provider_model, \
         end_user, stream, status, outcome, attempts, fallbacks, prompt_tokens, completion_tokens, \
         total_tokens, cached_tokens, reasoning_tokens, estimated, cost_nanos, start_us, duration_us, \
         first_event_us"
    };
}

const KEY: &str = concat!("SELECT ", key_columns!(), " FROM attache_keys WHERE hash = $1");
const INSERT_KEY: &str = concat!(
    "INSERT INTO attache_keys (",
    key_columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, FALSE, 0, $13, $13) RETURNING ",
    key_columns!()
);
const DELETE_KEY: &str = "DELETE FROM attache_keys WHERE hash = $1";
const HASH_OF_ALIAS: &str = "SELECT alias, hash FROM attache_keys WHERE alias = $1";
const SET_BLOCKED: &str = concat!(
    "UPDATE attache_keys SET blocked = $2, updated_ms = $3 WHERE hash = $1 RETURNING ",
    key_columns!()
);
const PING: &str = "SELECT 1";
const INSERT_SPEND: &str = concat!("INSERT INTO attache_spend (", spend_columns!(), ") ");
const NEW_ROWS_ONLY: &str = " ON CONFLICT (call_id) DO NOTHING RETURNING key_hash, cost_nanos";
const NEWEST: &str =
    concat!("SELECT ", spend_columns!(), " FROM attache_spend ORDER BY start_us DESC, call_id DESC LIMIT $1");
const NEWEST_OF_KEY: &str = concat!(
    "SELECT ",
    spend_columns!(),
    " FROM attache_spend WHERE key_hash = $2 ORDER BY start_us DESC, call_id DESC LIMIT $1"
);
const SPEND: &str = concat!("SELECT ", spend_columns!(), " FROM attache_spend WHERE call_id = $1");
const TOTALS: &str = "SELECT COUNT(*) AS row_count, \
     CAST(COALESCE(SUM(prompt_tokens), 0) AS BIGINT) AS prompt_tokens, \
     CAST(COALESCE(SUM(completion_tokens), 0) AS BIGINT) AS completion_tokens, \
     CAST(COALESCE(SUM(cost_nanos), 0) AS BIGINT) AS cost_nanos, \
     COUNT(*) - COUNT(cost_nanos) AS unpriced_rows FROM attache_spend";

fn key_row(record: KeyRecord) -> Result<KeyRow, StoreError> {
    KeyRow::try_from(record).map_err(|error| broken(BACKEND, format!("attache_keys: {error}")))
}

#[async_trait]
impl KeyStore for Store {
    async fn key(&self, hash: &str) -> Result<Option<KeyRow>, StoreError> {
        let mut lease = self.lease(READ).await?;
        let query = sqlx::query_as::<_, KeyRecord>(KEY).bind(clean(hash));
        let answer = within(lease.deadline, query.fetch_optional(&mut *lease.connection)).await;
        lease.end(answer)?.map(key_row).transpose()
    }

    async fn insert_key(&self, key: NewKey) -> Result<KeyRow, StoreError> {
        let json = |value: serde_json::Result<String>| value.map_err(|error| broken(BACKEND, error));
        let models = json(serde_json::to_string(&key.models))?;
        let metadata = json(serde_json::to_string(&key.metadata))?;
        let optional = |text: Option<String>| text.map(|text| clean(&text));
        let query = sqlx::query_as::<_, KeyRecord>(INSERT_KEY)
            .bind(clean(&key.hash))
            .bind(clean(&key.name))
            .bind(optional(key.alias))
            .bind(models)
            .bind(optional(key.user_id))
            .bind(optional(key.team_id))
            .bind(key.expires_ms.map(signed))
            .bind(metadata)
            .bind(key.max_budget_nanos)
            .bind(key.rpm_limit)
            .bind(key.tpm_limit)
            .bind(optional(key.created_by))
            .bind(signed(wall_ms()));
        let mut lease = self.lease(MUTATION).await?;
        let answer = within(lease.deadline, query.fetch_one(&mut *lease.connection)).await;
        key_row(lease.end(answer)?)
    }

    async fn delete_keys(&self, hashes: &[String]) -> Result<Vec<String>, StoreError> {
        let mut lease = self.lease(MUTATION).await?;
        let answer = within(lease.deadline, delete(&mut lease.connection, hashes)).await;
        lease.end(answer)
    }

    async fn hashes_of_aliases(&self, aliases: &[String]) -> Result<Vec<(String, String)>, StoreError> {
        let mut lease = self.lease(READ).await?;
        let answer = within(lease.deadline, find_aliases(&mut lease.connection, aliases)).await;
        lease.end(answer)
    }

    async fn set_blocked(&self, hash: &str, blocked: bool) -> Result<Option<KeyRow>, StoreError> {
        let mut lease = self.lease(MUTATION).await?;
        let query = sqlx::query_as::<_, KeyRecord>(SET_BLOCKED)
            .bind(clean(hash))
            .bind(blocked)
            .bind(signed(wall_ms()));
        let answer = within(lease.deadline, query.fetch_optional(&mut *lease.connection)).await;
        lease.end(answer)?.map(key_row).transpose()
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let mut lease = self.lease(READ).await?;
        let answer = within(lease.deadline, sqlx::query(PING).execute(&mut *lease.connection)).await;
        lease.end(answer).map(|_| ())
    }
}

#[async_trait]
impl Ledger for Store {
    async fn write(&self, rows: &[SpendRow]) -> Result<u64, StoreError> {
        if rows.is_empty() {
            return Ok(0);
        }
        let mut lease = self.lease(WRITE).await?;
        let answer = within(lease.deadline, write(&mut lease.connection, rows)).await;
        lease.end(answer)
    }

    async fn rows(&self, key: Option<&str>, limit: u32) -> Result<Vec<SpendRow>, StoreError> {
        let mut lease = self.lease(READ).await?;
        let query = match key {
            None => sqlx::query_as::<_, SpendRecord>(NEWEST).bind(i64::from(limit)),
            Some(key) => sqlx::query_as::<_, SpendRecord>(NEWEST_OF_KEY)
                .bind(i64::from(limit))
                .bind(bounded(key, MAX_ID)),
        };
        let answer = within(lease.deadline, query.fetch_all(&mut *lease.connection)).await;
        Ok(lease.end(answer)?.into_iter().map(SpendRow::from).collect())
    }

    async fn row(&self, call_id: &str) -> Result<Option<SpendRow>, StoreError> {
        let mut lease = self.lease(READ).await?;
        let query = sqlx::query_as::<_, SpendRecord>(SPEND).bind(bounded(call_id, MAX_ID));
        let answer = within(lease.deadline, query.fetch_optional(&mut *lease.connection)).await;
        Ok(lease.end(answer)?.map(SpendRow::from))
    }

    async fn totals(&self) -> Result<LedgerTotals, StoreError> {
        // A sum over the whole table is no request's business: it gets the long deadline.
        let mut lease = self.lease(WRITE).await?;
        let query = sqlx::query_as::<_, TotalsRecord>(TOTALS);
        let answer = within(lease.deadline, query.fetch_one(&mut *lease.connection)).await;
        Ok(lease.end(answer)?.into())
    }
}

/// One statement per key, in order of the hash: the ledger locks keys in the same order, so neither waits for
/// the other in a circle.
async fn delete(connection: &mut Connection, hashes: &[String]) -> sqlx::Result<Vec<String>> {
    let mut ordered: Vec<String> = hashes.iter().map(|hash| clean(hash)).collect();
    ordered.sort_unstable();
    ordered.dedup();
    let mut transaction = connection.begin_with(BEGIN).await?;
    let mut deleted = Vec::new();
    for hash in ordered {
        if sqlx::query(DELETE_KEY).bind(&hash).execute(&mut *transaction).await?.rows_affected() > 0 {
            deleted.push(hash);
        }
    }
    transaction.commit().await?;
    Ok(deleted)
}

async fn find_aliases(
    connection: &mut Connection,
    aliases: &[String],
) -> sqlx::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for alias in aliases {
        let query = sqlx::query_as::<_, (String, String)>(HASH_OF_ALIAS).bind(clean(alias));
        found.extend(query.fetch_optional(&mut *connection).await?);
    }
    Ok(found)
}

/// Inserts in order of `call_id`, then adds to the keys in order of their hash: two writers with overlapping
/// batches wait for each other in one direction only.
async fn write(connection: &mut Connection, rows: &[SpendRow]) -> sqlx::Result<u64> {
    let mut ordered: Vec<&SpendRow> = rows.iter().collect();
    ordered.sort_by(|a, b| a.call_id.cmp(&b.call_id));
    let mut transaction = connection.begin_with(BEGIN).await?;
    let mut new = 0_u64;
    let mut spent: BTreeMap<String, i64> = BTreeMap::new();
    for chunk in ordered.chunks(CHUNK) {
        let mut insert = insert_statement(chunk);
        // The text differs with the number of rows: caching it would push out the statements that recur.
        let query = insert.build_query_as::<(String, Option<i64>)>().persistent(false);
        for (key, cost) in query.fetch_all(&mut *transaction).await? {
            new += 1;
            let sum = spent.entry(key).or_default();
            *sum = sum.saturating_add(cost.unwrap_or_default());
        }
    }
    spent.retain(|_, cost| *cost != 0);
    add_spend(&mut transaction, spent).await?;
    transaction.commit().await?;
    Ok(new)
}

fn insert_statement(rows: &[&SpendRow]) -> QueryBuilder<Db> {
    let mut insert = QueryBuilder::<Db>::new(INSERT_SPEND);
    insert.push_values(rows, |mut values, row| {
        values
            .push_bind(bounded(&row.call_id, MAX_ID))
            .push_bind(bounded(&row.request_id, MAX_ID))
            .push_bind(bounded(&row.key, MAX_ID))
            .push_bind(bounded(&row.endpoint, MAX_TEXT))
            .push_bind(bounded(&row.model, MAX_TEXT))
            .push_bind(bounded(&row.group, MAX_TEXT))
            .push_bind(bounded(&row.deployment, MAX_TEXT))
            .push_bind(bounded(&row.provider, MAX_TEXT))
            .push_bind(bounded(&row.provider_model, MAX_TEXT))
            .push_bind(row.user.as_deref().map(|user| bounded(user, MAX_TEXT)))
            .push_bind(row.stream)
            .push_bind(i64::from(row.status))
            .push_bind(bounded(&row.outcome, MAX_TEXT))
            .push_bind(i64::from(row.attempts))
            .push_bind(i64::from(row.fallbacks))
            .push_bind(count(row.prompt_tokens))
            .push_bind(count(row.completion_tokens))
            .push_bind(count(row.total_tokens))
            .push_bind(count(row.cached_tokens))
            .push_bind(count(row.reasoning_tokens))
            .push_bind(row.estimated)
            .push_bind(row.cost_nanos.map(cost))
            .push_bind(signed(row.start_us))
            .push_bind(signed(row.duration_us))
            .push_bind(row.first_event_us.map(signed));
    });
    insert.push(NEW_ROWS_ONLY);
    insert
}
