//! `Ledger`, over `super::{Db, Connection, Store, Lease}`: this file is compiled once per driver.
//! Both dialects understand every statement here (`$1` parameters, `ON CONFLICT`, `RETURNING`).

use std::collections::HashSet;

use async_trait::async_trait;
use sqlx::{Connection as _, QueryBuilder};

use super::super::lease::{Failure, within};
use super::super::records::{MAX_ID, MAX_TEXT, SpendRecord, TotalsRecord, bounded, cost, count, signed};
use super::charge::charge;
use super::{BEGIN, Connection, Db, READ, Store, WRITE};
use crate::store::{Ledger, LedgerTotals, SpendRow, StoreError};

/// Rows per INSERT: far below the limit of bind parameters of either database (29 each).
const CHUNK: usize = 400;

macro_rules! spend_columns {
    () => {
        "call_id, request_id, key_hash, endpoint, model, model_group, deployment, provider, provider_model, \
         end_user, stream, status, outcome, attempts, fallbacks, prompt_tokens, completion_tokens, \
         total_tokens, cached_tokens, reasoning_tokens, estimated, cost_nanos, start_us, duration_us, \
         first_event_us, user_id, team_id, organization_id, tags"
    };
}

const INSERT_SPEND: &str = concat!("INSERT INTO attache_spend (", spend_columns!(), ") ");
const NEW_ROWS_ONLY: &str = " ON CONFLICT (call_id) DO NOTHING RETURNING call_id";
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

/// Inserts in order of `call_id`, then adds to entities and usage in an order of their own: two writers with
/// overlapping batches wait for each other in one direction only.
async fn write(connection: &mut Connection, rows: &[SpendRow]) -> Result<u64, Failure> {
    let mut ordered: Vec<&SpendRow> = rows.iter().collect();
    ordered.sort_by(|a, b| a.call_id.cmp(&b.call_id));
    let mut transaction = connection.begin_with(BEGIN).await?;
    let mut new: Vec<&SpendRow> = Vec::with_capacity(rows.len());
    for chunk in ordered.chunks(CHUNK) {
        let mut insert = insert_statement(chunk);
        // The text differs with the number of rows: caching it would push out the statements that recur.
        let query = insert.build_query_scalar::<String>().persistent(false);
        let written = query.fetch_all(&mut *transaction).await?;
        let mut written: HashSet<String> = written.into_iter().collect();
        // Of rows with one id in one statement the first is the one that was written.
        new.extend(chunk.iter().filter(|row| written.remove(&bounded(&row.call_id, MAX_ID))));
    }
    charge(&mut transaction, &new).await?;
    transaction.commit().await?;
    Ok(new.len() as u64)
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
            .push_bind(row.first_event_us.map(signed))
            .push_bind(optional(&row.user_id))
            .push_bind(optional(&row.team_id))
            .push_bind(optional(&row.organization_id))
            .push_bind(tags(&row.tags));
    });
    insert.push(NEW_ROWS_ONLY);
    insert
}

fn optional(text: &Option<String>) -> Option<String> {
    text.as_deref().map(|text| bounded(text, MAX_TEXT))
}

/// As JSON; null when there are none.
fn tags(tags: &[String]) -> Option<String> {
    const MOST: usize = 100;
    let tags: Vec<String> = tags.iter().take(MOST).map(|tag| bounded(tag, MAX_ID)).collect();
    (!tags.is_empty()).then(|| serde_json::Value::from(tags).to_string())
}
