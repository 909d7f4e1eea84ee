//! `Ledger`, over `super::{Db, Connection, Store, Lease}`: this file is compiled once per driver.
//! Both dialects understand every statement here (`$1` parameters, `ON CONFLICT`, `RETURNING`).

use async_trait::async_trait;
use sqlx::Connection as _;

use super::super::lease::{Failure, within};
use super::super::records::{MAX_ID, SpendRecord, TotalsRecord, bounded};
use super::super::stored::Stored;
use super::charge::{accounts, charge};
use super::{BEGIN, Connection, READ, Store, WRITE, rows};
use crate::store::{Ledger, LedgerTotals, SpendRow, StoreError};

const NEWEST: &str =
    concat!("SELECT ", spend_columns!(), " FROM attache_spend ORDER BY start_us DESC, call_id DESC LIMIT $1");
const NEWEST_OF_KEY: &str = concat!(
    "SELECT ",
    spend_columns!(),
    " FROM attache_spend WHERE key_hash = $2 ORDER BY start_us DESC, call_id DESC LIMIT $1"
);
const SPEND: &str = concat!("SELECT ", spend_columns!(), " FROM attache_spend WHERE call_id = $1");
/// From the sums per day, which outlive the rows.
const TOTALS: &str = "SELECT CAST(COALESCE(SUM(requests), 0) AS BIGINT) AS row_count, \
     CAST(COALESCE(SUM(prompt_tokens), 0) AS BIGINT) AS prompt_tokens, \
     CAST(COALESCE(SUM(completion_tokens), 0) AS BIGINT) AS completion_tokens, \
     CAST(COALESCE(SUM(nanos), 0) AS BIGINT) AS cost_nanos, \
     CAST(COALESCE(SUM(unpriced), 0) AS BIGINT) AS unpriced_rows FROM attache_daily WHERE kind = 'total' AND id = ''";

#[async_trait]
impl Ledger for Store {
    async fn write(&self, rows: &[SpendRow]) -> Result<u64, StoreError> {
        if rows.is_empty() {
            return Ok(0);
        }
        let mut lease = self.lease(WRITE).await?;
        // Boxed: the transaction makes a large future, which every caller's would contain.
        let writing = Box::pin(write(self, &mut lease.connection, rows));
        let answer = within(lease.deadline, writing).await;
        lease.end(answer)
    }

    async fn rows(&self, key: Option<&str>, limit: u32) -> Result<Vec<SpendRow>, StoreError> {
        let mut lease = self.lease(READ).await?;
        let query = match key {
            None => sqlx::query_as::<_, SpendRecord>(NEWEST).bind(i64::from(limit)),
            Some(key) => sqlx::query_as::<_, SpendRecord>(NEWEST_OF_KEY)
                .bind(i64::from(limit))
                .bind(bounded(key, MAX_ID).into_owned()),
        };
        let answer = within(lease.deadline, query.fetch_all(&mut *lease.connection)).await;
        Ok(lease.end(answer)?.into_iter().map(SpendRow::from).collect())
    }

    async fn row(&self, call_id: &str) -> Result<Option<SpendRow>, StoreError> {
        let mut lease = self.lease(READ).await?;
        let query = sqlx::query_as::<_, SpendRecord>(SPEND).bind(bounded(call_id, MAX_ID).into_owned());
        let answer = within(lease.deadline, query.fetch_optional(&mut *lease.connection)).await;
        Ok(lease.end(answer)?.map(SpendRow::from))
    }

    async fn totals(&self) -> Result<LedgerTotals, StoreError> {
        let mut lease = self.lease(READ).await?;
        let query = sqlx::query_as::<_, TotalsRecord>(TOTALS);
        let answer = within(lease.deadline, query.fetch_one(&mut *lease.connection)).await;
        Ok(lease.end(answer)?.into())
    }
}

/// One transaction: rows in order of their identity, then sums per day, entities and usage, each in an order of its own:
/// two writers with overlapping batches wait for each other in one direction only.
async fn write(store: &Store, connection: &mut Connection, given: &[SpendRow]) -> Result<u64, Failure> {
    let accounts = accounts(connection, given).await?;
    let mut stored: Vec<Stored<'_>> =
        given.iter().map(|row| Stored::new(row, |key| accounts.get(key).cloned())).collect();
    stored.sort_by(|a, b| a.identity().cmp(&b.identity()));
    stored.dedup_by(|a, b| a.identity() == b.identity());
    rows::prepare(store, connection, &stored).await?;
    match attempt(connection, &stored).await {
        Err(failure) if rows::lost_a_day(store, &failure) => {
            rows::prepare(store, connection, &stored).await?;
            attempt(connection, &stored).await
        }
        answer => answer,
    }
}

async fn attempt(connection: &mut Connection, stored: &[Stored<'_>]) -> Result<u64, Failure> {
    match transaction(connection, stored, false).await? {
        Some(new) => Ok(new),
        None => Ok(transaction(connection, stored, true).await?.unwrap_or_default()),
    }
}

/// The number of new rows. `None`: nothing was written, because some rows are known, and nobody can say which.
async fn transaction(
    connection: &mut Connection,
    stored: &[Stored<'_>],
    some_known: bool,
) -> Result<Option<u64>, Failure> {
    let mut transaction = connection.begin_with(BEGIN).await?;
    let Some(new) = rows::insert(&mut transaction, stored, some_known).await? else {
        transaction.rollback().await?;
        return Ok(None);
    };
    charge(&mut transaction, &new).await?;
    transaction.commit().await?;
    Ok(Some(new.len() as u64))
}
