//! Sums set to what the rows say. Compiled once per driver, as `ledger.rs`.

use sqlx::Connection as _;

use super::super::checked::{Checked, DAY_US, QUARTERS_PER_DAY, name_of_day};
use super::super::errors::broken;
use super::super::lease::Failure;
use super::charge::set_usage;
use super::verify::{ROWS_SINCE, days, used};
use super::{BACKEND, BEGIN, Connection, retain};
use crate::store::StoreError;

const CLEAR_DAILY: &str = "DELETE FROM attache_daily WHERE day = $1";
const FILL_DAILY: &str = concat!(
    "WITH new AS (SELECT ",
    daily_source!(),
    " FROM attache_spend WHERE start_us >= $1 AND start_us < $2) ",
    add_daily!()
);
const CLEAR_USAGE: &str = "DELETE FROM attache_usage WHERE quarter = $1";
/// In the order in which the ledger locks them.
const LOCK_UNEQUAL: &str = concat!(
    "SELECT e.kind, e.id FROM attache_entities AS e WHERE e.spend_nanos <> e.spend_offset_nanos + COALESCE((\
     SELECT CAST(SUM(u.nanos) AS BIGINT) FROM attache_usage AS u WHERE u.kind = e.kind AND u.id = e.account), 0) \
     ORDER BY e.kind, e.id",
    lock!()
);
const SET_SPEND: &str = "UPDATE attache_entities SET spend_nanos = spend_offset_nanos + COALESCE((\
     SELECT CAST(SUM(u.nanos) AS BIGINT) FROM attache_usage AS u WHERE u.kind = attache_entities.kind \
     AND u.id = attache_entities.account), 0) WHERE kind = $1 AND id = $2";

/// A day whose rows are not all there.
pub(super) fn not_whole(day: i64) -> StoreError {
    broken(
        BACKEND,
        format!("{}: its rows are not all there, so its sums cannot be made from them", name_of_day(day)),
    )
}

/// Days with rows or sums whose rows are all there.
pub(super) async fn whole_days(connection: &mut Connection) -> Result<Vec<i64>, Failure> {
    let floor: i64 = sqlx::query_scalar(ROWS_SINCE).fetch_one(&mut *connection).await?;
    Ok(days(connection).await?.into_iter().filter(|day| *day >= floor).collect())
}

/// One transaction; whoever writes rows of the day waits. Returns the number of its rows.
pub(super) async fn rebuild_day(connection: &mut Connection, day: i64) -> Result<u64, Failure> {
    retain::before_rebuild(connection, day).await?;
    let mut transaction = connection.begin_with(BEGIN).await?;
    retain::hold_day(&mut transaction, day).await?;
    sqlx::query(CLEAR_DAILY).bind(day).execute(&mut *transaction).await?;
    let fill = sqlx::query(FILL_DAILY).bind(day * DAY_US).bind((day + 1) * DAY_US);
    fill.execute(&mut *transaction).await?;
    let Checked { mut used, unknown, rows, .. } = used(&mut transaction, day).await?;
    let first = day * QUARTERS_PER_DAY;
    // Where rows do not say whom they are charged to, use stays as it is.
    used.retain(|of, _| !unknown.contains(&of.quarter));
    for quarter in (first..first + QUARTERS_PER_DAY).filter(|quarter| !unknown.contains(quarter)) {
        sqlx::query(CLEAR_USAGE).bind(quarter).execute(&mut *transaction).await?;
    }
    let mut used: Vec<_> = used.into_iter().collect();
    used.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    set_usage(&mut transaction, &used).await?;
    transaction.commit().await?;
    Ok(rows)
}

/// Sets the spend of entities to what it began with and all use. Returns how many were changed.
pub(super) async fn rebuild_spend(connection: &mut Connection) -> Result<u64, Failure> {
    let mut transaction = connection.begin_with(BEGIN).await?;
    let unequal: Vec<(String, String)> = sqlx::query_as(LOCK_UNEQUAL).fetch_all(&mut *transaction).await?;
    let mut changed = 0;
    for (kind, id) in &unequal {
        // A statement of its own sees what was written before the lock was got.
        let set = sqlx::query(SET_SPEND).bind(kind).bind(id).execute(&mut *transaction).await?;
        changed += set.rows_affected();
    }
    transaction.commit().await?;
    Ok(changed)
}
