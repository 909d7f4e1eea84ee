//! Everything computed again from the rows. Compiled once per driver, as `ledger.rs`.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::TryStreamExt as _;
use sqlx::{Connection as _, Row as _};

use super::super::checked::{Checked, DAY_US, QUARTERS_PER_DAY, Sums, Use, difference, name_of_day};
use super::super::errors::broken;
use super::super::lease::Failure;
use super::super::records::{SpendRecord, unsigned};
use super::{BACKEND, Connection, SNAPSHOT};
use crate::store::{Scope, Verified};

pub(super) const ROWS_OF_DAY: &str =
    concat!("SELECT ", spend_columns!(), " FROM attache_spend WHERE start_us >= $1 AND start_us < $2");
pub(super) const ROWS_SINCE: &str = "SELECT value FROM attache_ledger WHERE name = 'rows_since'";
const USAGE_SINCE: &str = "SELECT value FROM attache_ledger WHERE name = 'usage_since'";
const NEXT_ROW: &str = "SELECT MIN(start_us) FROM attache_spend WHERE start_us >= $1";
const SUMMED_DAYS: &str = "SELECT DISTINCT day FROM attache_daily WHERE kind = 'total' AND id = ''";
const USAGE_OF_DAY: &str = "SELECT kind, id, quarter, requests, prompt_tokens, completion_tokens, nanos \
     FROM attache_usage WHERE quarter >= $1 AND quarter < $2";
const DAILY_COUNT: &str = "SELECT COUNT(*) FROM attache_daily WHERE day = $1";

macro_rules! sides {
    ($($name:literal),+) => {
        concat!($(
            ", CAST(SUM(CASE WHEN side = 0 THEN ", $name, " ELSE 0 END) AS BIGINT), \
             CAST(SUM(CASE WHEN side = 1 THEN ", $name, " ELSE 0 END) AS BIGINT)"
        ),+)
    };
}

macro_rules! unequal {
    ($($name:literal),+) => {
        concat!("FALSE" $(, " OR SUM(CASE WHEN side = 0 THEN ", $name, " ELSE -", $name, " END) <> 0")+)
    };
}

macro_rules! daily_compared {
    ($($name:literal),+) => {
        const MEASURES: &[&str] = &[$($name),+];
        /// Sums of a day by its rows ($1, $2: its first microsecond and the next day's) beside those in the table ($3).
        const DAILY: &str = concat!(
            "WITH new AS (SELECT ", daily_source!(),
            " FROM attache_spend WHERE start_us >= $1 AND start_us < $2), sides AS (SELECT ",
            daily_key!(), ", ", daily_sums!(), ", 0 AS side FROM (", daily!(), ") AS computed UNION ALL SELECT ",
            daily_key!(), ", ", daily_sums!(), ", 1 FROM attache_daily WHERE day = $3) SELECT ",
            daily_key!(), ", COUNT(*) OVER () AS unequal", sides!($($name),+),
            " FROM sides GROUP BY ", daily_key!(), " HAVING ", unequal!($($name),+),
            " ORDER BY ", daily_key!(), " LIMIT $4"
        );
    };
}

daily_compared!(
    "requests",
    "successes",
    "failures",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "nanos",
    "unpriced",
    "estimated",
    "duration_us"
);

/// Spend beside what it began with and all use.
const SPEND: &str = "SELECT e.kind, e.id, e.spend_nanos, \
     e.spend_offset_nanos + COALESCE(CAST(u.nanos AS BIGINT), 0) AS computed, COUNT(*) OVER () AS unequal \
     FROM attache_entities AS e LEFT JOIN (SELECT kind, id, SUM(nanos) AS nanos FROM attache_usage \
     GROUP BY kind, id) AS u ON u.kind = e.kind AND u.id = e.account \
     WHERE e.spend_nanos <> e.spend_offset_nanos + COALESCE(CAST(u.nanos AS BIGINT), 0) ORDER BY 1, 2 LIMIT $1";
const ENTITIES: &str = "SELECT COUNT(*) FROM attache_entities";

/// On one view of the database; nobody waits for it.
pub(super) async fn verify(connection: &mut Connection, scope: &Scope) -> Result<Verified, Failure> {
    let mut transaction = connection.begin_with(SNAPSHOT).await?;
    let mut verified = Verified::default();
    let floor: i64 = sqlx::query_scalar(ROWS_SINCE).fetch_one(&mut *transaction).await?;
    let usage_since: i64 = sqlx::query_scalar(USAGE_SINCE).fetch_one(&mut *transaction).await?;
    for day in days(&mut transaction).await? {
        if scope.since.is_some_and(|since| day < since) {
            continue;
        }
        if day < floor {
            verified.days_without_rows += 1;
            continue;
        }
        verified.days += 1;
        let used = rows(&mut transaction, scope, day, &mut verified).await?;
        daily(&mut transaction, scope, day, &mut verified).await?;
        if day * QUARTERS_PER_DAY >= usage_since {
            usage(&mut transaction, scope, day, used, &mut verified).await?;
        }
    }
    spend(&mut transaction, scope, &mut verified).await?;
    transaction.rollback().await?;
    Ok(verified)
}

/// Days that have rows or sums.
pub(super) async fn days(connection: &mut Connection) -> Result<BTreeSet<i64>, Failure> {
    let summed: Vec<i64> = sqlx::query_scalar(SUMMED_DAYS).fetch_all(&mut *connection).await?;
    let mut days: BTreeSet<i64> = summed.into_iter().collect();
    let mut from = 0;
    loop {
        let next: Option<i64> = sqlx::query_scalar(NEXT_ROW).bind(from).fetch_one(&mut *connection).await?;
        let Some(start_us) = next else { return Ok(days) };
        let day = start_us / DAY_US;
        days.insert(day);
        from = (day + 1) * DAY_US;
    }
}

/// What the rows of a day add to use.
pub(super) async fn used(connection: &mut Connection, day: i64) -> Result<Checked, Failure> {
    let mut checked = Checked::default();
    let query = sqlx::query_as::<_, SpendRecord>(ROWS_OF_DAY);
    let mut rows = query.bind(day * DAY_US).bind((day + 1) * DAY_US).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        checked.add_use(&row);
    }
    Ok(checked)
}

async fn rows(
    connection: &mut Connection,
    scope: &Scope,
    day: i64,
    verified: &mut Verified,
) -> Result<Checked, Failure> {
    let mut checked = Checked::default();
    let query = sqlx::query_as::<_, SpendRecord>(ROWS_OF_DAY);
    let mut rows = query.bind(day * DAY_US).bind((day + 1) * DAY_US).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        row.check(scope, verified);
        if !checked.add_use(&row) {
            let at = format!("call {}", row.call_id());
            difference(scope, verified, "attache_spend.charged", || {
                (at, row.charged_text().unwrap_or_default().to_owned(), "readable".to_owned())
            });
        }
    }
    verified.rows_without_charge += checked.without_charge;
    Ok(checked)
}

async fn daily(
    connection: &mut Connection,
    scope: &Scope,
    day: i64,
    verified: &mut Verified,
) -> Result<(), Failure> {
    let count: i64 = sqlx::query_scalar(DAILY_COUNT).bind(day).fetch_one(&mut *connection).await?;
    verified.daily += unsigned(count);
    let query = sqlx::query(DAILY).bind(day * DAY_US).bind((day + 1) * DAY_US).bind(day);
    let rows =
        query.bind(i64::try_from(scope.shown.max(1)).unwrap_or(i64::MAX)).fetch_all(connection).await?;
    let Some(first) = rows.first() else { return Ok(()) };
    let total: i64 = first.try_get(8)?;
    for row in &rows {
        let names = (0..8).filter(|at| *at != 2).map(|at| row.try_get::<String, _>(at));
        let names = names.collect::<Result<Vec<_>, _>>()?.join(" / ");
        let (mut computed, mut stored) = (Vec::new(), Vec::new());
        for (at, measure) in MEASURES.iter().enumerate() {
            let (by_rows, in_table): (i64, i64) = (row.try_get(9 + 2 * at)?, row.try_get(10 + 2 * at)?);
            if by_rows != in_table {
                computed.push(format!("{measure} {by_rows}"));
                stored.push(format!("{measure} {in_table}"));
            }
        }
        let at = format!("{} {names}", name_of_day(day));
        difference(scope, verified, "attache_daily", || (at, stored.join(", "), computed.join(", ")));
    }
    verified.differences += unsigned(total).saturating_sub(rows.len() as u64);
    Ok(())
}

async fn usage(
    connection: &mut Connection,
    scope: &Scope,
    day: i64,
    mut checked: Checked,
    verified: &mut Verified,
) -> Result<(), Failure> {
    type Record = (String, String, i64, i64, i64, i64, i64);
    let query = sqlx::query_as::<_, Record>(USAGE_OF_DAY);
    let first = day * QUARTERS_PER_DAY;
    let mut rows = query.bind(first).bind(first + QUARTERS_PER_DAY).fetch(connection);
    while let Some((kind, id, quarter, requests, prompt_tokens, completion_tokens, nanos)) =
        rows.try_next().await?
    {
        let stored = Sums { requests, prompt_tokens, completion_tokens, nanos };
        let of = Use::of(&kind, id, quarter).map_err(|reason| broken(BACKEND, reason))?;
        let computed = checked.used.remove(&of);
        if checked.unknown.contains(&quarter) {
            continue;
        }
        verified.usage += 1;
        let computed = computed.unwrap_or_default();
        if stored != computed {
            difference(scope, verified, "attache_usage", || {
                (of.to_string(), stored.to_string(), computed.to_string())
            });
        }
    }
    let missing: BTreeMap<Use, Sums> =
        checked.used.into_iter().filter(|(of, _)| !checked.unknown.contains(&of.quarter)).collect();
    for (of, computed) in missing {
        verified.usage += 1;
        difference(scope, verified, "attache_usage", || {
            (of.to_string(), "nothing".to_owned(), computed.to_string())
        });
    }
    Ok(())
}

async fn spend(connection: &mut Connection, scope: &Scope, verified: &mut Verified) -> Result<(), Failure> {
    let count: i64 = sqlx::query_scalar(ENTITIES).fetch_one(&mut *connection).await?;
    verified.entities = unsigned(count);
    let query = sqlx::query_as::<_, (String, String, i64, i64, i64)>(SPEND);
    let shown = i64::try_from(scope.shown.max(1)).unwrap_or(i64::MAX);
    let rows = query.bind(shown).fetch_all(connection).await?;
    let total = rows.first().map_or(0, |row| unsigned(row.4));
    let told = rows.len() as u64;
    for (kind, id, stored, computed, _) in rows {
        let at = format!("{kind} {}", id.replace(crate::entity::SEPARATOR, " / "));
        difference(scope, verified, "attache_entities.spend_nanos", || {
            (at, stored.to_string(), computed.to_string())
        });
    }
    verified.differences += total.saturating_sub(told);
    Ok(())
}
