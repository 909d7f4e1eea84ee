//! Partitions of the ledger in Postgres: made ahead, and dropped when their day is old.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _};

use super::super::lease::{Failure, within};
use super::rows::make_days;
use super::upkeep::SINCE;
use super::{BEGIN, Connection, Store, WRITE};
use crate::store::{StoreError, Tended};

/// Days that have a partition before their first row comes.
const AHEAD: i64 = 3;
/// How often a lock is asked for that others hold, and the pause between.
const TRIES: usize = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// Name and Unix day.
const PARTITIONS: &str = "SELECT c.relname::text, (TO_DATE(RIGHT(c.relname, 8), 'YYYYMMDD') - DATE '1970-01-01')::bigint AS day \
     FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid \
     WHERE i.inhparent = 'attache_spend'::regclass AND c.relname ~ '^attache_spend_[0-9]{8}$' ORDER BY day";
/// Dropping a partition locks the whole table for a moment. Whoever asks for that holds up everyone behind, so not for
/// long.
const SHORT: &str = "SET LOCAL lock_timeout = '500ms'";
const ALONE: &str = "SELECT PG_TRY_ADVISORY_XACT_LOCK(1635017059, 2)";
const MAKE_DAY: &str = "SELECT attache_spend_day($1)";

/// Makes partitions ahead, and drops those of days before `keep_from`.
pub(super) async fn tend(store: &Store, today: i64, keep_from: Option<i64>) -> Result<Tended, StoreError> {
    let mut lease = store.lease(WRITE).await?;
    let tending = Box::pin(async {
        make_days(store, &mut lease.connection, today..=today + AHEAD).await?;
        Ok::<_, Failure>(sqlx::query_as(PARTITIONS).fetch_all(&mut *lease.connection).await?)
    });
    let answer = within(lease.deadline, tending).await;
    let partitions: Vec<(String, i64)> = lease.end(answer)?;
    let mut tended = Tended::default();
    for (name, day) in partitions.into_iter().filter(|(_, day)| keep_from.is_some_and(|from| *day < from)) {
        if drop_in_time(store, &name, day).await? {
            tended.dropped.push(day);
        } else {
            tended.busy = true;
            break;
        }
    }
    Ok(tended)
}

/// False when others hold it for long.
async fn drop_in_time(store: &Store, name: &str, day: i64) -> Result<bool, StoreError> {
    for attempt in 0..TRIES {
        if attempt > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        let mut lease = store.lease(WRITE).await?;
        let dropping = Box::pin(drop_day(&mut lease.connection, name, day));
        match within(lease.deadline, dropping).await {
            Err(failure) if is_locked(&failure) => lease.end(Ok(()))?,
            answer => return lease.end(answer),
        }
    }
    Ok(false)
}

async fn drop_day(connection: &mut Connection, name: &str, day: i64) -> Result<bool, Failure> {
    let mut transaction = connection.begin_with(BEGIN).await?;
    sqlx::query(SHORT).execute(&mut *transaction).await?;
    if !alone(&mut transaction).await? {
        return Ok(false);
    }
    sqlx::query(SINCE).bind("rows_since").bind(day + 1).execute(&mut *transaction).await?;
    // The name is the catalogue's and looks like one of ours.
    let drop = AssertSqlSafe(format!("DROP TABLE IF EXISTS {name}"));
    sqlx::query(drop).persistent(false).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(true)
}

/// lock_not_available
fn is_locked(failure: &Failure) -> bool {
    let Failure::Sql(sqlx::Error::Database(refusal)) = failure else { return false };
    refusal.code().is_some_and(|code| code == "55P03")
}

/// Is no other process at it? Until the transaction ends.
pub(super) async fn alone(connection: &mut Connection) -> Result<bool, Failure> {
    Ok(sqlx::query_scalar(ALONE).fetch_one(connection).await?)
}

/// Makes sure that there is a partition to hold.
pub(super) async fn before_rebuild(connection: &mut Connection, day: i64) -> Result<(), Failure> {
    sqlx::query(MAKE_DAY).bind(day).execute(connection).await?;
    Ok(())
}

/// Until the transaction ends nobody else writes rows of the day or makes its sums again, and whoever did has ended.
pub(super) async fn hold_day(connection: &mut Connection, day: i64) -> Result<(), Failure> {
    let named: Vec<(String, i64)> = sqlx::query_as(PARTITIONS).fetch_all(&mut *connection).await?;
    for (name, _) in named.iter().filter(|(_, other)| *other == day) {
        // As above.
        let lock = AssertSqlSafe(format!("LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE"));
        sqlx::query(lock).persistent(false).execute(&mut *connection).await?;
    }
    Ok(())
}
