//! Old days in SQLite: deleted in small steps, between which the ledger is written.

use sqlx::Connection as _;

use super::super::checked::DAY_US;
use super::super::lease::{Failure, within};
use super::upkeep::SINCE;
use super::{BEGIN, CHECK, Connection, Store, WRITE};
use crate::store::{StoreError, Tended};

/// Rows per step.
const STEP: i64 = 2_000;
const DAYS: &str = "SELECT DISTINCT start_us / 86400000000 FROM attache_spend WHERE start_us < $1 ORDER BY 1";
const DELETE: &str = "DELETE FROM attache_spend WHERE rowid IN (\
     SELECT rowid FROM attache_spend WHERE start_us < $1 ORDER BY start_us LIMIT $2)";

/// Deletes rows of days before `keep_from`.
pub(super) async fn tend(store: &Store, _: i64, keep_from: Option<i64>) -> Result<Tended, StoreError> {
    let Some(keep_from) = keep_from else { return Ok(Tended::default()) };
    let before_us = keep_from.saturating_mul(DAY_US);
    let mut lease = store.lease(CHECK).await?;
    let days = sqlx::query_scalar(DAYS).bind(before_us).fetch_all(&mut *lease.connection);
    let answer = within(lease.deadline, days).await;
    let dropped: Vec<i64> = lease.end(answer)?;
    while !dropped.is_empty() {
        let mut lease = store.lease(WRITE).await?;
        let deleting = Box::pin(delete(&mut lease.connection, keep_from, before_us));
        let answer = within(lease.deadline, deleting).await;
        if lease.end(answer)? < STEP.unsigned_abs() {
            break;
        }
    }
    Ok(Tended { dropped, busy: false })
}

/// One step; the number of rows.
async fn delete(connection: &mut Connection, keep_from: i64, before_us: i64) -> Result<u64, Failure> {
    let mut transaction = connection.begin_with(BEGIN).await?;
    // Before the first row goes: sums of days without all of their rows are not compared.
    sqlx::query(SINCE).bind("rows_since").bind(keep_from).execute(&mut *transaction).await?;
    let deleted = sqlx::query(DELETE).bind(before_us).bind(STEP).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(deleted.rows_affected())
}

/// The writer has the whole file to itself.
#[expect(clippy::unused_async, reason = "as in the other dialect")]
pub(super) async fn alone(_: &mut Connection) -> Result<bool, Failure> {
    Ok(true)
}

/// There are no partitions.
#[expect(clippy::unused_async, reason = "as in the other dialect")]
pub(super) async fn before_rebuild(_: &mut Connection, _: i64) -> Result<(), Failure> {
    Ok(())
}

/// The writer has the whole file to itself.
#[expect(clippy::unused_async, reason = "as in the other dialect")]
pub(super) async fn hold_day(_: &mut Connection, _: i64) -> Result<(), Failure> {
    Ok(())
}
