//! `Upkeep`. Compiled once per driver, as `ledger.rs`.

use async_trait::async_trait;
use sqlx::Connection as _;

use super::super::lease::{Failure, within};
use super::super::records::signed;
use super::rebuild::{rebuild_day, rebuild_spend, whole_days};
use super::retain;
use super::verify::verify;
use super::{BEGIN, CHECK, Connection, REBUILD, Store};
use crate::store::memory::wall_ms;
use crate::store::{Rebuilt, Retention, Scope, StoreError, Tended, Upkeep, Verified};

const DAY_MS: u64 = 86_400_000;
const QUARTERS_PER_DAY: i64 = 96;

/// Is there use before this quarter?
const OLD_USE: &str =
    "SELECT COUNT(*) FROM (SELECT 1 AS one FROM attache_usage WHERE quarter < $1 LIMIT 1) AS old";
/// In the order in which the ledger locks them.
const LOCK: &str = concat!(
    "SELECT e.id FROM attache_entities AS e WHERE EXISTS (SELECT 1 FROM attache_usage AS u \
     WHERE u.kind = e.kind AND u.id = e.account AND u.quarter < $1) ORDER BY e.kind, e.id",
    lock!()
);
/// Spend stays what it is.
const KEEP_SPEND: &str = "UPDATE attache_entities SET spend_offset_nanos = spend_offset_nanos + COALESCE((\
     SELECT CAST(SUM(u.nanos) AS BIGINT) FROM attache_usage AS u WHERE u.kind = attache_entities.kind \
     AND u.id = attache_entities.account AND u.quarter < $1), 0) \
     WHERE EXISTS (SELECT 1 FROM attache_usage AS u WHERE u.kind = attache_entities.kind \
     AND u.id = attache_entities.account AND u.quarter < $1)";
const FORGET_USE: &str = "DELETE FROM attache_usage WHERE quarter < $1";
pub(super) const SINCE: &str = "UPDATE attache_ledger SET value = $2 WHERE name = $1 AND value < $2";

#[async_trait]
impl Upkeep for Store {
    async fn tend(&self, retention: &Retention) -> Result<Tended, StoreError> {
        let now_ms = wall_ms();
        let day_before = |age: std::time::Duration| {
            let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            signed(now_ms.saturating_sub(age_ms) / DAY_MS)
        };
        let mut tended = retain::tend(self, signed(now_ms / DAY_MS), retention.rows.map(day_before)).await?;
        let mut lease = self.lease(REBUILD).await?;
        let quarter = day_before(retention.usage) * QUARTERS_PER_DAY;
        let forgetting = Box::pin(forget_use(&mut lease.connection, quarter));
        let answer = within(lease.deadline, forgetting).await;
        tended.busy |= !lease.end(answer)?;
        Ok(tended)
    }

    async fn verify(&self, scope: &Scope) -> Result<Verified, StoreError> {
        let mut lease = self.lease(CHECK).await?;
        let verifying = Box::pin(verify(&mut lease.connection, scope));
        let answer = within(lease.deadline, verifying).await;
        lease.end(answer)
    }

    async fn rebuild(&self, days: Option<&[i64]>) -> Result<Rebuilt, StoreError> {
        let mut lease = self.lease(REBUILD).await?;
        let rebuilding = Box::pin(rebuild(&mut lease.connection, days));
        let answer = within(lease.deadline, rebuilding).await;
        lease.end(answer)
    }
}

/// Deletes use before a quarter of an hour; false when another process is at it.
async fn forget_use(connection: &mut Connection, quarter: i64) -> Result<bool, Failure> {
    let old: i64 = sqlx::query_scalar(OLD_USE).bind(quarter).fetch_one(&mut *connection).await?;
    if old == 0 {
        return Ok(true);
    }
    let mut transaction = connection.begin_with(BEGIN).await?;
    if !retain::alone(&mut transaction).await? {
        return Ok(false);
    }
    for statement in [LOCK, KEEP_SPEND, FORGET_USE] {
        sqlx::query(statement).bind(quarter).execute(&mut *transaction).await?;
    }
    sqlx::query(SINCE).bind("usage_since").bind(quarter).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(true)
}

async fn rebuild(connection: &mut Connection, days: Option<&[i64]>) -> Result<Rebuilt, Failure> {
    let whole = whole_days(connection).await?;
    let days = match days {
        None => whole,
        Some(days) => {
            // Without all of its rows a day would lose what it had.
            let gone = days.iter().find(|day| !whole.contains(day));
            if let Some(day) = gone {
                return Err(super::rebuild::not_whole(*day).into());
            }
            days.to_vec()
        }
    };
    let mut rebuilt = Rebuilt::default();
    for day in days {
        rebuilt.rows += rebuild_day(connection, day).await?;
        rebuilt.days += 1;
    }
    rebuilt.entities = rebuild_spend(connection).await?;
    Ok(rebuilt)
}
